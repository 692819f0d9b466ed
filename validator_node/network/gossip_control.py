"""Control messages of gossip, cut down to what an honest router sends, and what they may ask of us.

Rules:
1. An IHAVE is looked at for topics of our mesh, up to `IHAVE_RPCS` RPCs of a peer a heartbeat and
   `MAX_IDS` ids each. Of what it offers we ask for what we have not seen.
2. Of each such request one message, at random, has to come within `PROMISE_S`; a peer that does not
   send it pays, and for `DISTRUST_S` it is asked only for what nobody else was asked for just now.
3. A peer gets each recent message at most `REPEATS` times and `RESENT_BYTES` a heartbeat, whether
   it asks for them or subscribes anew, and whatever streams or connections it uses.
4. A PRUNE counts for topics of our mesh, for at most `MAX_BACK_OFF_S`. Discovery says who
   is dialled, not a PRUNE.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from libp2p.pubsub.utils import safe_bytes_from_hex

from validator_node.network.limits import Gate

MAX_IDS: Final = 1_000
MAX_ID_BYTES: Final = 128
MAX_GRAFTS: Final = 32
MAX_BACK_OFF_S: Final = 3_600
IHAVE_RPCS: Final = 10
REPEATS: Final = 3
RESENT_BYTES: Final = 4 * 1_048_576
PROMISE_S: Final = 5.0
ASKED_S: Final = 0.5
DISTRUST_S: Final = 30.0
MAX_ASKED: Final = 16_384
_ANY: Final = random.SystemRandom()


class Resent:
    """What each peer was sent again (rule 3)."""

    def __init__(self) -> None:
        self._times: dict[str, Counter[bytes]] = {}
        self._bytes: Counter[str] = Counter()

    def grant(self, peer_id: str, message_id: bytes, size: int) -> bool:
        """Grant a message of `size` bytes to a peer once more, or not."""
        times = self._times.setdefault(peer_id, Counter())
        if times[message_id] >= REPEATS or self._bytes[peer_id] + size > RESENT_BYTES:
            return False
        times[message_id] += 1
        self._bytes[peer_id] += size
        return True

    def on_beat(self, is_recent: Callable[[bytes], bool]) -> None:
        """Forget what can no longer be asked for."""
        self._bytes.clear()
        for peer_id, times in list(self._times.items()):
            for message_id in [known for known in times if not is_recent(known)]:
                del times[message_id]
            if not times:
                del self._times[peer_id]


class Promises:
    """What we asked for, and who did not keep what its IHAVE promised (rule 2). Pure."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._asked: OrderedDict[bytes, float] = OrderedDict()
        self._open: dict[bytes, dict[str, float]] = {}
        self._distrusted: dict[str, float] = {}

    def ask(self, peer_id: str, message_ids: Iterable[bytes]) -> list[bytes]:
        """Return which of these a peer is asked for now."""
        now = self._now()
        wanted = list(dict.fromkeys(message_ids))
        if now < self._distrusted.get(peer_id, now):
            wanted = [m for m in wanted if now - self._asked.get(m, now - ASKED_S) >= ASKED_S]
        for message_id in wanted:
            self._asked[message_id] = now
            self._asked.move_to_end(message_id)
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        if wanted and len(self._open) < MAX_ASKED:
            promised = self._open.setdefault(_ANY.choice(wanted), {})
            promised.setdefault(peer_id, now + PROMISE_S)
        return wanted

    def on_received(self, message_id: bytes) -> None:
        """Note that a message came, from whomever: nobody has to send it any more."""
        if self._open:
            self._open.pop(message_id, None)

    def on_beat(self) -> set[str]:
        """Return the peers that broke a promise since the last heartbeat."""
        now = self._now()
        broken: set[str] = set()
        for message_id, promised in list(self._open.items()):
            late = [peer_id for peer_id, until in promised.items() if until <= now]
            broken.update(late)
            for peer_id in late:
                del promised[peer_id]
            if not promised:
                del self._open[message_id]
        self._distrusted = {p: until for p, until in self._distrusted.items() if until > now}
        self._distrusted.update(dict.fromkeys(broken, now + DISTRUST_S))
        return broken


class Control:
    """Cuts down what peers send, on behalf of one router."""

    def __init__(self, router: Any, gate: Gate) -> None:
        self._router = router
        self._gate = gate
        self._ihaves: Counter[str] = Counter()
        self.resent = Resent()
        self.promises = Promises(gate.scores.now)

    def on_beat(self) -> None:
        """Begin a new heartbeat."""
        self._ihaves.clear()
        self.resent.on_beat(self._router.mcache.msgs.__contains__)
        for peer_id in self.promises.on_beat():
            self._refuse(peer_id, "gossip_promise")

    def cut_down(self, peer_id: str, control: Any) -> None:
        """Leave of a control message what an honest router of v1.1 sends."""
        mesh = self._router.mesh
        control.ClearField("idontwant")
        self._cut_offers(peer_id, control)
        self._cut_wanted(peer_id, control)
        _keep(control.iwant, lambda iwant: len(iwant.messageIDs) > 0)
        del control.graft[MAX_GRAFTS:]
        _keep(control.prune, lambda prune: prune.topicID in mesh)
        for prune in control.prune:
            prune.ClearField("peers")
            prune.backoff = min(prune.backoff, MAX_BACK_OFF_S)

    def _refuse(self, peer_id: str, reason: str) -> None:
        self._gate.counters.count("refused", reason)
        self._gate.scores.charge(peer_id, reason)

    def _cut_offers(self, peer_id: str, control: Any) -> None:
        if not control.ihave:
            return
        self._ihaves[peer_id] += 1
        if self._ihaves[peer_id] > IHAVE_RPCS:
            control.ClearField("ihave")
            self._refuse(peer_id, "gossip_ihave")
            return
        mesh, room = self._router.mesh, MAX_IDS
        for ihave in control.ihave:
            del ihave.messageIDs[room if ihave.topicID in mesh else 0 :]
            room -= len(ihave.messageIDs)
        _keep(control.ihave, lambda ihave: len(ihave.messageIDs) > 0)

    def _cut_wanted(self, peer_id: str, control: Any) -> None:
        cache = self._router.mcache.msgs
        for iwant in control.iwant:
            kept = []
            for wanted in dict.fromkeys(iwant.messageIDs):
                message_id = safe_bytes_from_hex(wanted)
                message = cache.get(message_id)
                if message_id is None or message is None:
                    continue
                if self.resent.grant(peer_id, message_id, message.ByteSize()):
                    kept.append(wanted)
                else:
                    self._gate.counters.count("refused", "gossip_iwant")
            del iwant.messageIDs[:]
            iwant.messageIDs.extend(kept)


def _keep(entries: Any, wanted: Any) -> None:
    kept = [entry for entry in entries if wanted(entry)]
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)
