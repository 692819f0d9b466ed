"""The mesh of a topic: the peers with which whole messages are exchanged. Pure.

Rules:
1. Members and configured peers ("reserved") that joined the topic are in its mesh, beside all
   others, up to `RESERVED`, and never pruned. Their GRAFT is taken up to `RESERVED_HIGH`.
2. Of the others we look for some while the mesh has fewer than `LOW` peers, until it has `DEGREE`;
   we let ourselves be grafted by others until `HIGH` of them are there.
3. A peer earns merit by being the first to deliver a message that is accepted; merit halves in half
   a minute. Who has been in the mesh for `SILENT_BEATS` heartbeats, while `SILENT_MESSAGES` came
   from others, and has no merit is *silent*. On a quiet topic nobody is.
4. A silent peer gives way to one outside that has merit. While fewer than `LOW` in the mesh have
   any, one silent peer every `EXPLORE_BEATS` gives way to whoever is outside: so strangers who say
   nothing cannot keep those out who would.
5. Who is not in the mesh loses nothing but time: every subscriber is told of every message at the
   next heartbeat and gets what it asks for. An honest peer that is always the last to deliver may
   be taken for a silent one.
"""

import random
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

Peer = TypeVar("Peer", bound=Hashable)

DEGREE: Final = 6
LOW: Final = 4
HIGH: Final = 8
RESERVED: Final = 16
RESERVED_HIGH: Final = 32
SILENT_MESSAGES: Final = 8
SILENT_BEATS: Final = 5
EXPLORE_BEATS: Final = 10
SWAPS: Final = 2
"""Silent peers at most that give way in one heartbeat."""
MERIT_KEPT: Final = 0.977
"""What a heartbeat leaves of a merit: half of it after 30."""
MERIT_ENDS: Final = 0.05


@dataclass(slots=True)
class Plan(Generic[Peer]):
    """What a heartbeat changes: whom to graft and whom to prune."""

    graft: list[Peer] = field(default_factory=list)
    prune: list[Peer] = field(default_factory=list)


class TopicMesh(Generic[Peer]):
    """The peers in the mesh of one topic, and what each has been good for."""

    def __init__(
        self,
        peers: set[Peer],
        is_reserved: Callable[[Peer], bool],
        shuffled: Callable[[list[Peer]], list[Peer]] = lambda peers: random.sample(
            peers, len(peers)
        ),
    ) -> None:
        """Look after `peers`, the mesh as the router knows it."""
        self.peers = peers
        self._is_reserved = is_reserved
        self._shuffled = shuffled
        self._merits: dict[Peer, float] = {}
        self._since: dict[Peer, tuple[int, int]] = {}
        self._beat = self._delivered = 0
        self._explored = 0

    def merit(self, peer: Peer) -> float:
        """Return how much a peer has delivered first lately."""
        return self._merits.get(peer, 0.0)

    def on_delivery(self, peer: Peer) -> None:
        """Note that a peer was the first to deliver a message."""
        self._delivered += 1
        self._merits[peer] = self.merit(peer) + 1.0

    def forget(self, peer: Peer) -> None:
        """Forget a peer that is gone."""
        self.peers.discard(peer)
        self._merits.pop(peer, None)
        self._since.pop(peer, None)

    def is_silent(self, peer: Peer) -> bool:
        """Return whether a peer in the mesh takes a place and gives nothing (rule 3)."""
        if self.merit(peer) or peer not in self._since:
            return False
        beat, delivered = self._since[peer]
        return self._beat - beat >= SILENT_BEATS and self._delivered - delivered >= SILENT_MESSAGES

    def takes(self, peer: Peer) -> bool:
        """Return whether a peer's GRAFT finds a place (rules 1, 2 and 4)."""
        reserved = self._reserved()
        if self._is_reserved(peer):
            return len(reserved) < RESERVED_HIGH
        others = self.peers - reserved
        if len(others) < HIGH:
            return True
        return self.merit(peer) > 0 and len(others) == HIGH and any(map(self.is_silent, others))

    def wants(self, peer: Peer) -> bool:
        """Return whether a peer that just subscribed is grafted at once."""
        if self._is_reserved(peer):
            return len(self._reserved()) < RESERVED
        return len(self.peers) < LOW

    def plan(self, subscribed: Collection[Peer], may_graft: Callable[[Peer], bool]) -> Plan[Peer]:
        """Return what this heartbeat changes; `peers` is as it was.

        Args:
            subscribed: the peers of the topic.
            may_graft: whether a GRAFT to a peer is possible now, and allowed by back-off.
        """
        self._begin_beat(subscribed)
        plan: Plan[Peer] = Plan()
        outside = self._shuffled([p for p in subscribed if p not in self.peers and may_graft(p)])
        room = RESERVED - len(self._reserved())
        plan.graft += [p for p in outside if self._is_reserved(p)][: max(0, room)]
        others = [p for p in outside if not self._is_reserved(p)]
        others.sort(key=self.merit, reverse=True)  # keeps the random order among equals
        if len(self.peers) + len(plan.graft) < LOW:
            wanted = DEGREE - len(self.peers) - len(plan.graft)
            plan.graft += others[:wanted]
            others = others[wanted:]
        self._make_way(plan, others)
        return plan

    def _begin_beat(self, subscribed: Collection[Peer]) -> None:
        self._beat += 1
        self._merits = {
            p: m * MERIT_KEPT for p, m in self._merits.items() if m * MERIT_KEPT > MERIT_ENDS
        }
        self.peers.intersection_update(subscribed)
        known = self._since
        self._since = {p: known.get(p, (self._beat, self._delivered)) for p in self.peers}

    def _reserved(self) -> set[Peer]:
        return {peer for peer in self.peers if self._is_reserved(peer)}

    def _make_way(self, plan: Plan[Peer], outside: list[Peer]) -> None:
        """Prune what is too much, and let silent peers give way (rule 4)."""
        inside = self._shuffled(list(self.peers - self._reserved()))
        inside.sort(key=lambda peer: (not self.is_silent(peer), self.merit(peer)))
        too_many = max(0, len(inside) - HIGH)
        plan.prune += inside[:too_many]
        silent = [peer for peer in inside[too_many:] if self.is_silent(peer)]
        proven = [peer for peer in outside if self.merit(peer) > 0]
        for gone, come in zip(silent[:SWAPS], proven, strict=False):
            plan.prune.append(gone)
            plan.graft.append(come)
        useful = sum(self.merit(peer) > 0 for peer in self.peers)
        due = self._beat - self._explored >= EXPLORE_BEATS
        if silent and outside and not proven and useful < LOW and due:
            self._explored = self._beat
            plan.prune.append(silent[0])
            plan.graft.append(outside[0])
