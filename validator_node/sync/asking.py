"""Asking one peer something of state sync, and charging it for what does not prove itself."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import structlog

from protocol.codec import Record, decode
from protocol.errors import ProtocolError
from validator_node.network.network import Network

Reply = TypeVar("Reply", bound=Record)

log = structlog.get_logger(__name__)


class Asker:
    """Asks over a network, and counts what comes of it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.counts: Counter[str] = Counter()

    async def ask(
        self,
        peer_id: str,
        protocol: str,
        data: bytes,
        kind: type[Reply],
        *,
        limit_bytes: int,
        deadline_s: float,
    ) -> tuple[Reply, int]:
        """Return a peer's answer and its size in bytes. Raises `NetworkError`, `DecodeError`."""
        reply = await self.network.request(
            peer_id, protocol, data, deadline_s=deadline_s, max_reply_bytes=limit_bytes
        )
        return decode(kind, reply, limit_bytes=limit_bytes), len(reply)

    def charge(self, peer_id: str, error: ProtocolError, cost: float = 1.0) -> None:
        """Charge a peer for its own word, and for nobody else's."""
        self.counts["lies"] += 1
        log.warning("sync: a peer's answer does not prove itself", peer=peer_id, reason=str(error))
        self.network.charge(peer_id, error.reason, cost)
