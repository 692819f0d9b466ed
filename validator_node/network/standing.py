"""Standing: who a peer is to this node, so that what strangers fill keeps a part for members. Pure.

Rules:
1. A peer is a stranger until something proves otherwise about the peer id that its connection
   authenticated: the operator's configuration, or a node record signed by a hotkey that the chain
   knows. Whoever finds such a proof tells it here; whoever grants something scarce asks here.
2. Each source replaces what it said before (`assign`), so that nobody keeps a standing that its
   proof has lost. A peer with several standings has the highest.
3. A single proof that no source repeats (`prove`) lasts `PROVEN_S`; of these at most `MAX_PROVEN`
   are kept, the oldest go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final

PROVEN_S: Final = 600.0
MAX_PROVEN: Final = 1_024


class Standing(IntEnum):
    """What a peer is to this node; a higher one has all that a lower one has."""

    STRANGER = 0
    REGISTERED = 1
    """A hotkey of the subnet answers for it."""
    CONFIGURED = 2
    """The operator named it."""
    MEMBER = 3
    """A hotkey of the validator set answers for it."""

    @property
    def is_reserved(self) -> bool:
        """Whether reserves are for this peer, and its mesh and connections are never pruned."""
        return self >= Standing.CONFIGURED


class Standings:
    """The standing of each peer, by peer id."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._assigned: dict[Standing, frozenset[str]] = {}
        self._proven: OrderedDict[str, float] = OrderedDict()
        self._listeners: list[Callable[[], None]] = []

    def assign(self, standing: Standing, peer_ids: Iterable[str]) -> None:
        """Give these peers a standing, and take it from all others."""
        found = frozenset(peer_ids)
        if found != self._assigned.get(standing, frozenset()):
            self._assigned[standing] = found
            for listener in self._listeners:
                listener()

    def prove(self, peer_id: str) -> None:
        """Note that a registered hotkey answered for a peer just now (rule 3)."""
        self._proven[peer_id] = self._now() + PROVEN_S
        self._proven.move_to_end(peer_id)
        if len(self._proven) > MAX_PROVEN:
            self._proven.popitem(last=False)

    def of(self, peer_id: str) -> Standing:
        """Return the standing of a peer."""
        for standing in sorted(self._assigned, reverse=True):
            if peer_id in self._assigned[standing]:
                return standing
        if self._now() < self._proven.get(peer_id, 0.0):
            return Standing.REGISTERED
        return Standing.STRANGER

    def reserved(self) -> frozenset[str]:
        """Return the peers whose standing `is_reserved`."""
        return frozenset().union(*(ids for s, ids in self._assigned.items() if s.is_reserved))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener()` whenever a source has said something new."""
        self._listeners.append(listener)
