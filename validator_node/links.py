"""The consensus links: who is at the other end, and what they say.

A link carries frames of consensus messages and statements. It is admitted only after the peer's
node record proved which validator it is (`peers`). A validator may have `PEER_QUEUE` messages
waiting for the driver; until they are taken its next frame is not read, which holds its writer
back. A peer whose conduct is beyond patience is disconnected and banned for a while (`conduct`).
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import structlog
import trio

from protocol.errors import ProtocolError
from validator_node.conduct import BAN_S, Conduct
from validator_node.consensus_driver import ConsensusDriver
from validator_node.network.links import Links
from validator_node.network.network import Network
from validator_node.outbox import MAX_FRAME_BYTES, decode_frame
from validator_node.peers import Peers

DROP_QUEUE = 64
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
        self._network: Network | None = None
        self._driver: ConsensusDriver | None = None
        self._conduct = Conduct(trio.current_time)
        self._to_drop, self._dropping = trio.open_memory_channel[str](DROP_QUEUE)
        self.refused: Counter[str] = Counter()

    def open(self, network: Network, driver: ConsensusDriver) -> None:
        """Begin linking."""
        self._driver, self._network = driver, network
        driver.events.refused.append(self._on_refused)
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

    async def run(self) -> None:
        """Disconnect the peers whose conduct asks for it, for ever."""
        async for peer_id in self._dropping:
            log.error("peer dropped for its conduct", peer=peer_id, ban_s=BAN_S)
            if self._network is not None:
                await self._network.disconnect(peer_id)

    def _on_refused(self, index: int, reason: str) -> None:
        peer_id = self._peers.peer_id(index)
        if peer_id is not None:
            self._charge(peer_id, reason)

    def _charge(self, peer_id: str, reason: str) -> None:
        if self._conduct.note(peer_id, reason):
            self.refused["dropped"] += 1
            with suppress(trio.WouldBlock):  # it is banned; the channel holds others before it
                self._to_drop.send_nowait(peer_id)

    async def _on_hello(self, peer_id: str, data: bytes) -> bool:
        if self._conduct.is_banned(peer_id):
            self.refused["banned"] += 1
            return False
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

    async def _on_frame(self, peer_id: str, frame: bytes) -> None:
        index = self._peers.index(peer_id)
        if index is None or self._driver is None:
            self.refused["unknown_peer"] += 1
            return
        try:
            messages = decode_frame(frame)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            self._charge(peer_id, error.reason)
            return
        if self._conduct.is_banned(peer_id):
            return
        await self._driver.put(index, messages)
