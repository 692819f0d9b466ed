"""Discovery: how nodes of one network find each other and stay found.

Rules:
1. The own record is published on a gossip topic soon after the start, then every `ANNOUNCE_S`, and
   when our addresses change; each time as a new record, so that it is forwarded to whoever is new.
2. Connected peers are asked for records when they appear and every `ASK_S`, a few at a time.
3. Everybody's word is checked in the same way (`book`): a peer has a budget of records, what no
   honest peer passes on is charged to its score, and nothing else about a peer is believed.
4. Whom to keep connected follows from the book (`neighbours`). Without peer exchange nobody is
   asked, and only the configured peers are dialled; our record is announced all the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog
import trio

from consensus.validators import Voters
from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.records.validators import (
    MAX_EXCHANGED,
    PeerExchangeReply,
    PeerExchangeRequest,
    SignedNodeRecord,
)
from validator_node.discovery.book import MAX_RECORD_BYTES, AddressBook, RecordRefusedError
from validator_node.discovery.neighbours import Neighbours
from validator_node.network.addresses import announced, dialable, is_loopback_host
from validator_node.network.errors import InvalidAddressError, NetworkError
from validator_node.network.gossip import CheckAnswer
from validator_node.network.mdns import LocalPeers
from validator_node.network.network import Network
from validator_node.network.standing import Standing
from validator_node.rate import Budget

PEERS_PROTOCOL: Final = "/validator/1/peers"
ANNOUNCE_S: Final = 600.0
FIRST_ANNOUNCEMENTS_S: Final = (0.0, 15.0, 60.0)
"""After the start; the later ones are for whoever was not connected yet."""
ADDRESS_CHECK_S: Final = 30.0
ASK_S: Final = 240.0
ASK_AT_ONCE: Final = 3
ASK_GAP_S: Final = 1.0
ASK_DEADLINE_S: Final = 10.0
MAX_REQUEST_BYTES: Final = 64
MAX_REPLY_BYTES: Final = (MAX_EXCHANGED + 1) * MAX_RECORD_BYTES
MEMBERS_IN_REPLY: Final = 24
UPKEEP_S: Final = 60.0
GAP_S: Final = 0.1
RECORDS_PER_S: Final = 25.0
"""Budget of one forwarder; four seconds' worth at once."""
REQUESTS_PER_S: Final = 1.0
FORGED_COST: Final = 5.0

log = structlog.get_logger(__name__)
_random = secrets.SystemRandom()
T = TypeVar("T")


class Saved(Protocol):
    """Where the book is kept over a restart."""

    def load(self) -> bytes | None:
        """Return what was saved last, None if nothing was."""

    def save(self, data: bytes) -> None:
        """Keep these bytes instead of those saved before."""


SignRecord = Callable[[tuple[str, ...], int], SignedNodeRecord]
"""`sign(addresses, sequence)` returns this node's record."""


@dataclass(frozen=True, kw_only=True)
class DiscoveryConfig:
    """How a node takes part.

    Attributes:
        network_id: names the topic and binds the signatures.
        listen_host: the IP address we listen on; only on loopback do we dial loopback.
        bootstrap: multiaddrs with peer ids, the same that the network was opened with.
        peer_exchange: whether to ask others and dial whom they name.
    """

    network_id: bytes
    listen_host: str
    bootstrap: tuple[str, ...] = ()
    peer_exchange: bool = True


class Discovery:
    """The service of one node. `record` is its own newest record."""

    def __init__(
        self,
        network: Network,
        book: AddressBook,
        voters: Voters,
        sign: SignRecord,
        config: DiscoveryConfig,
        saved: Saved,
        local: LocalPeers | None = None,
    ) -> None:
        self._network = network
        self.book = book
        self._sign = sign
        self._config = config
        self._saved = saved
        self._local = local
        self.topic = f"/validator/1/{config.network_id.hex()[:16]}/nodes"
        configured: dict[str, tuple[str, ...]] = {}
        for address in config.bootstrap:
            peer_id = address.rsplit("/p2p/", 1)[-1]
            configured[peer_id] = (*configured.get(peer_id, ()), address)
        self._neighbours = Neighbours(network.peer_id, configured)
        self._loopback = is_loopback_host(config.listen_host)
        self._configured = frozenset(configured)
        self._kept = dict(configured)
        self._wake = trio.Event()
        self._budget = Budget(RECORDS_PER_S, trio.current_time)
        self._requests = Budget(REQUESTS_PER_S, trio.current_time)
        self.expected: set[str] = set()
        """Peers who may be validators: worth a link before they have introduced themselves."""
        self.changed: list[Callable[[], None]] = []
        """Called after `expected` has changed."""
        book.begin_epoch(member.hotkey for member in voters.members)
        self._load()
        self.record = self._sign_again()
        self._expect()

    def _count(self, name: str, reason: str) -> None:
        self._network.counters.count(name, reason)

    def _load(self) -> None:
        data = self._saved.load()
        if data is None:
            return
        try:
            refused = self.book.load(data)
        except ProtocolError as error:  # the book is a cache: the others tell us again
            log.warning("saved address book unreadable, starting without it", reason=str(error))
            return
        log.info("address book loaded", records=len(self.book), refused=refused)

    def save(self) -> None:
        """Write the book down."""
        self._saved.save(self.book.dump())

    def _sign_again(self) -> SignedNodeRecord:
        addresses = announced(self._network.addresses)
        return self._sign(addresses, self.book.next_sequence())

    def begin_epoch(self, voters: Voters) -> None:
        """Take a new validator set: who is in it is kept connected from now on."""
        self.book.begin_epoch(member.hotkey for member in voters.members)
        self._expect()
        self._wake.set()

    async def run(self) -> None:
        """Announce, ask, answer and connect until cancelled; the book is saved at the end."""
        self._network.serve(
            PEERS_PROTOCOL,
            self._answer,
            max_request_bytes=MAX_REQUEST_BYTES,
            deadline_s=ASK_DEADLINE_S,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                nursery.start_soon(self._announce)
                nursery.start_soon(self._upkeep)
                if self._config.peer_exchange:
                    nursery.start_soon(self._ask_around)
                if self._local is not None:
                    nursery.start_soon(self._local.run, self._wake_up)
        finally:
            self.save()

    def _wake_up(self) -> None:
        self._wake.set()

    # --- telling others ----------------------------------------------------------------------

    async def _announce(self) -> None:
        began = trio.current_time()
        due = [began + after for after in FIRST_ANNOUNCEMENTS_S]
        while True:
            await self._network.wait_subscriber(self.topic)
            self.record = self._sign_again()
            await self._network.publish(self.topic, encode(self.record))
            now = trio.current_time()
            due = [at for at in due if at > now] or [now + ANNOUNCE_S]
            with trio.move_on_at(due[0]):
                # No event tells of an interface that came or went.
                while not self._moved():  # noqa: ASYNC110
                    await trio.sleep(ADDRESS_CHECK_S)

    def _moved(self) -> bool:
        return announced(self._network.addresses) != self.record.record.addresses

    async def _answer(self, peer_id: str, data: bytes) -> bytes:
        try:
            request = decode(PeerExchangeRequest, data, limit_bytes=MAX_REQUEST_BYTES)
        except ProtocolError as error:
            self._count("refused", f"peer_exchange_{error.reason}")
            self._network.charge(peer_id, "peer_exchange_malformed", FORGED_COST)
            return encode(PeerExchangeReply(records=()))
        if not self._requests.spend(peer_id.encode()):
            self._count("refused", "peer_exchange_budget")
            return encode(PeerExchangeReply(records=()))
        members = [e.signed for e in self.book.members() if e.peer_id != peer_id]
        others = [e.signed for e in self.book.others() if e.peer_id != peer_id]
        found = [self.record, *_sample(members, MEMBERS_IN_REPLY)]
        found += _sample(others, MAX_EXCHANGED - len(found))
        return encode(PeerExchangeReply(records=tuple(found[: request.limit])))

    # --- hearing from others -----------------------------------------------------------------

    async def _listen(self) -> None:
        messages = await self._network.join(self.topic, self._check, max_bytes=MAX_RECORD_BYTES)
        async for _ in messages:
            pass  # the check has taken it in; reading keeps the queue empty

    def _check(self, peer_id: str, data: bytes) -> CheckAnswer:
        if not self._budget.spend(peer_id.encode()):
            self._count("refused", "node_record_budget")
            return CheckAnswer.IGNORE
        try:
            self._take(self.book.read(data), peer_id)
        except RecordRefusedError as error:
            self._count("refused", f"node_record_{error.reason}")
            mild = CheckAnswer.USELESS if error.reason == "unknown_hotkey" else CheckAnswer.IGNORE
            return CheckAnswer.REJECT if error.hostile else mild
        return CheckAnswer.ACCEPT

    def _take(self, signed: SignedNodeRecord, source: str) -> None:
        entry = self.book.take(signed, source)
        log.debug("node record", peer=entry.peer_id, hotkey=entry.hotkey.hex()[:16], source=source)
        self._wake.set()

    async def _ask_around(self) -> None:
        asked: dict[str, float] = {}
        while True:
            peers, now = self._network.peers(), trio.current_time()
            asked = {peer_id: at for peer_id, at in asked.items() if peer_id in peers}
            due = [p for p in peers if now - asked.get(p, -ASK_S) >= ASK_S]
            async with trio.open_nursery() as nursery:
                for peer_id in _sample(due, ASK_AT_ONCE):
                    asked[peer_id] = now
                    nursery.start_soon(self._ask, peer_id)
            await trio.sleep(ASK_GAP_S)  # however often peers come and go
            if len(due) <= ASK_AT_ONCE:
                with trio.move_on_after(ASK_S):
                    await self._wait_newcomer(peers)

    async def _wait_newcomer(self, before: frozenset[str]) -> None:
        await self._network.wait_peers(lambda peers: bool(peers - before))

    async def _ask(self, peer_id: str) -> None:
        request = encode(PeerExchangeRequest(limit=MAX_EXCHANGED))
        try:
            data = await self._network.request(
                peer_id,
                PEERS_PROTOCOL,
                request,
                deadline_s=ASK_DEADLINE_S,
                max_reply_bytes=MAX_REPLY_BYTES,
            )
            reply = decode(PeerExchangeReply, data, limit_bytes=MAX_REPLY_BYTES)
        except NetworkError as error:
            self._count("errors", "peer_exchange")
            log.debug("peer exchange failed", peer=peer_id, reason=str(error))
            return
        except ProtocolError as error:
            self._refuse_reply(peer_id, error.reason)
            return
        for signed in reply.records:
            try:
                self._take(signed, peer_id)
            except RecordRefusedError as error:
                if error.hostile:
                    self._refuse_reply(peer_id, error.reason)
                    return
                self._count("refused", f"node_record_{error.reason}")

    def _refuse_reply(self, peer_id: str, reason: str) -> None:
        self._count("refused", f"node_record_{reason}")
        self._network.charge(peer_id, f"peer_exchange_{reason}", FORGED_COST)

    # --- staying connected -------------------------------------------------------------------

    async def _upkeep(self) -> None:
        save_at = trio.current_time() + UPKEEP_S
        while True:
            self._wake = trio.Event()
            self.book.touch(self._network.peers())
            self.book.expire()
            self._connect()
            if trio.current_time() >= save_at:
                self.save()
                save_at = trio.current_time() + UPKEEP_S
            with trio.move_on_after(UPKEEP_S):
                await self._wake.wait()
            await trio.sleep(GAP_S)  # many records come together

    def _expect(self) -> None:
        assign = self._network.standings.assign
        assign(Standing.MEMBER, (entry.peer_id for entry in self.book.members()))
        assign(Standing.REGISTERED, (entry.peer_id for entry in self.book.others()))
        assign(Standing.CONFIGURED, self._configured)
        expected = self._neighbours.expected(self.book) | self._configured
        if expected != self.expected:
            self.expected.clear()  # in place: others hold it
            self.expected.update(expected)
            for listener in self.changed:
                listener()

    def _connect(self) -> None:
        self._expect()
        if self._config.peer_exchange:
            wanted = self._neighbours.choose(
                self.book, self._network.peers(), trio.current_time(), loopback=self._loopback
            )
        else:
            wanted = {p: a for p, a in self._kept.items() if p in self._configured}
        for peer_id, found in (self._local.found() if self._local else {}).items():
            if usable := dialable(found, peer_id, loopback=self._loopback):
                wanted.setdefault(peer_id, usable)
        for peer_id in self._kept.keys() - wanted.keys():
            self._network.remove_bootstrap(peer_id)
        for peer_id, addresses in wanted.items():
            if self._kept.get(peer_id) != addresses:
                try:
                    self._network.keep(peer_id, addresses)
                except InvalidAddressError as error:
                    # Its hotkey signed it: whoever passed it on is not to blame.
                    self._count("refused", "node_record_address")
                    log.info("node record unusable", peer=peer_id, reason=str(error))
        self._kept = wanted


def _sample(items: list[T], count: int) -> list[T]:
    return _random.sample(items, min(len(items), count))
