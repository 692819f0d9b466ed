"""The consensus links: who is at the other end, and what they say.

A link carries frames of consensus messages and statements. It is admitted only after the peer's
node record proved which validator it is (`peers`).
"""

from __future__ import annotations

from collections import Counter

import structlog

from consensus import inputs
from protocol.errors import ProtocolError
from protocol.records.statement import Statement
from validator_node.consensus_driver import ConsensusDriver
from validator_node.network.links import Links
from validator_node.network.network import Network
from validator_node.outbox import MAX_FRAME_BYTES, decode_frame
from validator_node.peers import Peers

CONSENSUS_PROTOCOL = "/validator/1/consensus"

log = structlog.get_logger(__name__)


class ConsensusLinks:
    """Connects the driver with the other validators."""

    def __init__(self, peers: Peers, hello: bytes, known: frozenset[str]) -> None:
        """`known` are the peer ids that get a link before they have introduced themselves."""
        self._peers = peers
        self._hello = hello
        self._known = known
        self._links: Links | None = None
        self._driver: ConsensusDriver | None = None
        self.refused: Counter[str] = Counter()

    def open(self, network: Network, driver: ConsensusDriver) -> None:
        """Begin linking."""
        self._driver = driver
        self._links = network.open_links(
            CONSENSUS_PROTOCOL,
            on_frame=self._on_frame,
            hello=lambda: self._hello,
            on_hello=self._on_hello,
            on_link_up=self._on_link_up,
            wanted=lambda peer_id: peer_id in self._known or self._peers.index(peer_id) is not None,
            max_frame_bytes=MAX_FRAME_BYTES,
        )

    def up(self) -> int:
        """Return how many links are up."""
        return len(self._links.up()) if self._links else 0

    def send_frame(self, index: int, frame: bytes) -> None:
        """Queue a frame for a validator; dropped while it is unknown."""
        peer_id = self._peers.peer_id(index)
        if peer_id is not None and self._links is not None:
            self._links.send(peer_id, frame)

    async def _on_hello(self, peer_id: str, data: bytes) -> bool:
        try:
            index = self._peers.introduce(peer_id, data)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            log.warning("link refused", peer=peer_id, reason=str(error))
            return False
        log.info("link admitted", peer=peer_id, validator=index)
        self._say_where_we_are(index)
        return True

    def _on_link_up(self, peer_id: str) -> None:
        index = self._peers.index(peer_id)
        if index is not None:
            self._say_where_we_are(index)

    def _say_where_we_are(self, index: int) -> None:
        if self._driver is not None:
            self._driver.introduce(index)

    def _on_frame(self, peer_id: str, frame: bytes) -> None:
        index = self._peers.index(peer_id)
        if index is None or self._driver is None:
            self.refused["unknown_peer"] += 1
            return
        try:
            messages = decode_frame(frame)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            return
        for message in messages:
            if isinstance(message, Statement):
                self._driver.offer(message)
            else:
                self._driver.offer(inputs.Received(index, message))
