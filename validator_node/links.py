"""The consensus links: who is at the other end, and what they say.

A link carries frames of consensus messages and statements. It is admitted only after the peer's
node record proved which validator it is (`peers`). A validator may have `inbound.PEER_QUEUE`
messages waiting for the driver; until they are taken its next frame is not read, which holds its
writer back. What a validator sends to no use is charged to its peer's score (`conduct` says how
much); the network bans whoever goes too far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet

import structlog
import trio

from protocol.errors import ProtocolError
from validator_node.conduct import cost_of
from validator_node.consensus_driver import ConsensusDriver
from validator_node.network.links import Links
from validator_node.network.network import Network
from validator_node.outbox import MAX_FRAME_BYTES, decode_frame
from validator_node.peers import Peers

BAN_QUEUE = 64
CONSENSUS_PROTOCOL = "/validator/1/consensus"

log = structlog.get_logger(__name__)


class ConsensusLinks:
    """Connects the driver with the other validators."""

    def __init__(
        self,
        peers: Peers,
        hello: bytes,
        known: AbstractSet[str],
        *,
        is_member: Callable[[], bool] = lambda: True,
    ) -> None:
        """`known` are the peer ids that get a link before they have introduced themselves.

        Only members of the validator set link: `is_member` tells whether this node is one.
        """
        self._is_member = is_member
        self._peers = peers
        self._hello = hello
        self._known = known
        self._links: Links | None = None
        self._network: Network | None = None
        self._driver: ConsensusDriver | None = None
        self._note_ban, self._bans = trio.open_memory_channel[tuple[str, str]](BAN_QUEUE)
        self.refused: Counter[str] = Counter()

    def open(self, network: Network, driver: ConsensusDriver) -> None:
        """Begin linking."""
        self._driver, self._network = driver, network
        driver.events.refused.append(self._on_refused)
        network.on_ban(self._on_ban)
        self._links = network.open_links(
            CONSENSUS_PROTOCOL,
            on_frame=self._on_frame,
            hello=lambda: self._hello,
            on_hello=self._on_hello,
            on_link_up=self._on_link_up,
            wanted=self._is_wanted,
            max_frame_bytes=MAX_FRAME_BYTES,
        )

    def _is_wanted(self, peer_id: str) -> bool:
        expected = peer_id in self._known or self._peers.index(peer_id) is not None
        return expected and self._is_member()

    def reconsider(self) -> None:
        """Look again who is worth a link, after the set or what is known of it has changed."""
        if self._links is not None:
            self._links.reconsider()

    def up(self) -> int:
        """Return how many links are up."""
        return len(self._links.up()) if self._links else 0

    def send_frame(self, index: int, frame: bytes, urgent: bool = False) -> None:
        """Queue a frame for a validator; dropped while it is unknown."""
        peer_id = self._peers.peer_id(index)
        if peer_id is not None and self._links is not None:
            self._links.send(peer_id, frame, urgent=urgent)

    async def run(self) -> None:
        """Report the validators that the network bans, for ever."""
        async for peer_id, reason in self._bans:
            log.error("validator banned", validator=self._peers.index(peer_id), reason=reason)

    def _on_ban(self, peer_id: str, reason: str) -> None:
        if self._peers.index(peer_id) is None:
            return
        self.refused["banned"] += 1
        try:
            self._note_ban.send_nowait((peer_id, reason))
        except trio.WouldBlock:  # counted above; the log has named enough of them
            self.refused["bans_unreported"] += 1

    def _on_refused(self, index: int, reason: str) -> None:
        peer_id = self._peers.peer_id(index)
        if peer_id is not None:
            self._charge(peer_id, reason)

    def _charge(self, peer_id: str, reason: str) -> None:
        if self._network is not None:
            self._network.charge(peer_id, f"consensus_{reason}", cost_of(reason))

    async def _on_hello(self, peer_id: str, data: bytes) -> bool:
        try:
            index = self._peers.introduce(peer_id, data)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            log.warning("link refused", peer=peer_id, reason=str(error))
            return False
        log.info("link admitted", peer=peer_id, validator=index)
        self._say_where_we_are(index)
        self.reconsider()
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
        await self._driver.put(index, messages)
