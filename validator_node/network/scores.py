"""Scores: what each peer's misbehaviour has cost it, and who is banned for it. Pure.

Rules:
1. Whatever finds a fault charges it here, and nowhere else. A charge has a reason and a cost: a
   whole unit or more where only a broken or hostile peer does such a thing, next to nothing where
   honest ones do it too (repeats, stragglers). Costs leak away at `LEAK_PER_S`.
2. Beyond `LIMIT` the peer is banned for `BAN_S`: its connections are closed, and refused in both
   directions until the ban expires; then it begins anew. The rest of the network goes on without.
3. Peer ids cost nothing, so both tables are bounded: of the scores the longest untouched goes
   first, of the bans the one that ends soonest. What a newcomer may do before it has a score is
   the business of `limits`.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from validator_node.network.counters import Counters

log = logging.getLogger(__name__)

LIMIT: Final = 200.0
LEAK_PER_S: Final = 2.0
BAN_S: Final = 60.0
MAX_SCORES: Final = 4_096
MAX_BANS: Final = 4_096
UNIT: Final = 1.0

COSTS: Final[dict[str, float]] = {
    "buffer_overrun": 100.0,  # made us hold more unread bytes than its share
    "gossip_malformed": 20.0,  # not an RPC, or a record that is not the sender's
    "gossip_too_large": 20.0,  # a length prefix beyond any RPC
    "frame_too_large": 20.0,  # the same on a link or a request stream
    "gossip_signature": 5.0,  # a message whose author did not sign it
    "gossip_overflow": 5.0,  # an RPC with more entries than an honest one holds
    "gossip_rejected": 5.0,  # a topic's check answered REJECT
    "gossip_sequence": UNIT,  # a sequence number that is not eight bytes long
    "gossip_graft": UNIT,  # a GRAFT within the back-off that we named
    "gossip_promise": UNIT,  # offered a message and did not send it, at most once a second
    "gossip_ihave": 0.05,  # more offers than an honest router makes
    "gossip_topics": UNIT,  # a message on several topics at once
    "subscription_flood": UNIT,  # each subscription beyond the cap
    "hello_refused": UNIT,  # honest where validator sets differ for a moment
    "request_malformed": UNIT,  # not the record its protocol asks for
    "slow_frame": UNIT,  # a frame begun and not finished in time
    "gossip_throttled": 5.0,  # a second spent beyond the rate; a burst costs nothing
    "request_refused": 0.05,  # more requests under way than allowed
    "stream_refused": 0.05,  # more streams, or faster, than allowed
    "gossip_unknown_topic": 0.05,  # honest for a moment after we left a topic
}
"""Cost of each reason of this package; `charge` takes the cost of any other one."""


class Scores:
    """The score of each peer, by peer id: 0 is spotless, `LIMIT` is the end."""

    def __init__(self, now: Callable[[], float], counters: Counters) -> None:
        self.now = now
        self._counters = counters
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._banned_until: dict[str, float] = {}
        self._listeners: list[Callable[[str, str], None]] = []

    def on_ban(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(peer_id, reason)` whenever a peer is banned."""
        self._listeners.append(listener)

    def level(self, peer_id: str) -> float:
        """Return what a peer has run up and not yet lived down."""
        now = self.now()
        level, at = self._levels.get(peer_id, (0.0, now))
        return max(0.0, level - (now - at) * LEAK_PER_S)

    def charge(self, peer_id: str, reason: str, cost: float | None = None) -> bool:
        """Charge a peer; True if that was one too many and bans it (rule 2).

        Args:
            peer_id: who did it, as the connection authenticated it.
            reason: a short identifier of ours.
            cost: units; by default that of `COSTS`, or one.
        """
        if self.is_banned(peer_id):
            return False
        level = self.level(peer_id) + (COSTS.get(reason, UNIT) if cost is None else cost)
        self._counters.count("charged", reason)
        if level <= LIMIT:
            self._levels[peer_id] = (level, self.now())
            self._levels.move_to_end(peer_id)
            if len(self._levels) > MAX_SCORES:
                self._levels.popitem(last=False)
            return False
        self._levels.pop(peer_id, None)
        self._ban(peer_id, reason)
        return True

    def _ban(self, peer_id: str, reason: str) -> None:
        now = self.now()
        self._expire(now)
        if len(self._banned_until) >= MAX_BANS:
            del self._banned_until[min(self._banned_until, key=self._banned_until.__getitem__)]
        self._banned_until[peer_id] = now + BAN_S
        self._counters.count("banned", reason)
        log.warning("banned %s for %d s, at last for %s", peer_id, BAN_S, reason)
        for listener in self._listeners:
            listener(peer_id, reason)

    def is_banned(self, peer_id: str) -> bool:
        """Return whether a peer is banned now."""
        until = self._banned_until.get(peer_id)
        if until is None:
            return False
        if self.now() < until:
            return True
        del self._banned_until[peer_id]
        return False

    def bans(self) -> dict[str, float]:
        """Return the banned peers and the seconds that each ban still lasts."""
        now = self.now()
        self._expire(now)
        return {peer_id: until - now for peer_id, until in self._banned_until.items()}

    def _expire(self, now: float) -> None:
        for peer_id in [p for p, until in self._banned_until.items() if until <= now]:
            del self._banned_until[peer_id]
