"""The runner as a client of the nodes: their status and their word on submissions.

It is an ordinary libp2p client that dials every node at its own address, also while the nodes are
cut off from each other; it joins no topic and forwards nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from protocol.codec import decode
from protocol.errors import ProtocolError
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network, NetworkConfig, open_network
from validator_node.queries import (
    MAX_RECEIPT_REPLY_BYTES,
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    NodeStatus,
    ReceiptReply,
)
from validator_node.testnet.invariants import Fate
from validator_node.testnet.layout import ValidatorSite

REQUEST_S = 5.0
ASKERS = 4
R = TypeVar("R", NodeStatus, ReceiptReply)
STATES = ("unknown", "refused", "fetching", "waiting", "pending", "uncertified", "ended")
"""States of a `ReceiptReply`, the one that says most last."""


class Api:
    """Asks nodes; a node that does not answer is None."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.unanswered = 0

    async def _ask(self, site: ValidatorSite, protocol: str, request: bytes) -> bytes | None:
        peer_id = site.address.rsplit("/p2p/", 1)[-1]
        if peer_id not in self._network.peers():
            self.unanswered += 1
            return None
        try:
            return await self._network.request(
                peer_id,
                protocol,
                request,
                deadline_s=REQUEST_S,
                max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
            )
        except NetworkError:
            self.unanswered += 1
            return None

    async def status(self, site: ValidatorSite) -> NodeStatus | None:
        """Return a node's height and chain hash."""
        data = await self._ask(site, STATUS_PROTOCOL, b"")
        return None if data is None else _decoded(NodeStatus, data)

    async def fates(self, sites: Sequence[ValidatorSite], ids: Iterable[str]) -> dict[str, Fate]:
        """Return what the nodes know of submissions (by hexadecimal id), the best answer each."""
        found: dict[str, Fate] = {}
        waiting = iter(list(ids))

        async def ask_on() -> None:
            for submission_id in waiting:
                found[submission_id] = await self._fate(sites, submission_id)

        async with trio.open_nursery() as nursery:
            for _ in range(ASKERS):
                nursery.start_soon(ask_on)
        return found

    async def _fate(self, sites: Sequence[ValidatorSite], submission_id: str) -> Fate:
        best = Fate("unknown")
        for site in sites:
            data = await self._ask(site, RECEIPT_PROTOCOL, bytes.fromhex(submission_id))
            reply = None if data is None else _decoded(ReceiptReply, data)
            if reply is not None and STATES.index(reply.state) > STATES.index(best.state):
                best = Fate(reply.state, reply.reason)
            if best.is_final:
                break
        return best


def _decoded(kind: type[R], data: bytes) -> R | None:
    try:
        return decode(kind, data)
    except ProtocolError:
        return None


@asynccontextmanager
async def open_api(host: str, sites: Iterable[ValidatorSite]) -> AsyncIterator[Api]:
    """Connect to the nodes, now and whenever they come back, until the block ends."""
    config = NetworkConfig(
        seed=secrets.token_bytes(32),
        listen_host=host,
        listen_port=0,
        bootstrap=tuple(site.address for site in sites),
    )
    async with open_network(config) as network:
        yield Api(network)
