"""Whom to ask first, how long to wait for it, and when to leave it alone for a while. Pure.

Rules:
1. Nothing that a peer says of itself ranks it. What counts is who it is (`standing`) and what came
   of it before.
2. Each failure in a row doubles the time that a peer is left alone while there are others, and the
   time it is waited for the next time. So a stranger that only keeps this node waiting costs it
   less and less of its time, and an honest peer behind a slow line gets the time it needs.
3. Members and configured peers come first, and keep their place for `PARDONS` failures: however
   many strangers there are, one of those is among the first. Beyond that they rank by their
   failures as everybody does, because a member may be faulty too.
4. What is remembered is bounded and forgotten after `FORGET_S`. Who brought what it promised starts
   anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

from validator_node.network.standing import Standing

PATIENCE_S: Final = 5.0
MAX_PATIENCE_S: Final = 45.0
REST_S: Final = 5.0
MAX_REST_S: Final = 300.0
FORGET_S: Final = 900.0
PARDONS: Final = 2
MAX_REMEMBERED: Final = 4_096

_random = SystemRandom()


@dataclass(frozen=True, slots=True)
class _Mark:
    strikes: int
    at: float


class Sources:
    """What is remembered of the peers that are asked for one kind of thing."""

    def __init__(self, now: Callable[[], float], standing: Callable[[str], Standing]) -> None:
        self._now = now
        self._standing = standing
        self._marks: OrderedDict[str, _Mark] = OrderedDict()

    def failed(self, peer_id: str) -> None:
        """Note that a peer did not bring what it was asked for, or not in time."""
        self._marks[peer_id] = _Mark(self.strikes(peer_id) + 1, self._now())
        self._marks.move_to_end(peer_id)
        if len(self._marks) > MAX_REMEMBERED:
            self._marks.popitem(last=False)

    def brought(self, peer_id: str) -> None:
        """Note that a peer brought what it promised."""
        self._marks.pop(peer_id, None)

    def strikes(self, peer_id: str) -> int:
        """Return how often in a row a peer failed."""
        mark = self._marks.get(peer_id)
        return 0 if mark is None or self._now() > mark.at + FORGET_S else mark.strikes

    def patience_s(self, peer_id: str) -> float:
        """Return the seconds to wait for one answer of a peer (rule 2)."""
        return float(min(PATIENCE_S * 2 ** min(self.strikes(peer_id), 8), MAX_PATIENCE_S))

    def is_resting(self, peer_id: str) -> bool:
        """Whether a peer is left alone now, while there are others."""
        strikes = self.strikes(peer_id)
        if not strikes:
            return False
        rest_s = min(REST_S * 2 ** min(strikes - 1, 8), MAX_REST_S)
        return bool(self._now() < self._marks[peer_id].at + rest_s)

    def rank(self, peer_id: str) -> tuple[int, int]:
        """Return a peer's place among others; the lowest is asked first (rule 3)."""
        standing = self._standing(peer_id)
        pardons = PARDONS if standing.is_reserved else 0
        return max(0, self.strikes(peer_id) - pardons), -standing

    def ordered(self, peer_ids: Iterable[str]) -> list[str]:
        """Return peers by rank; equals in an order that nobody can know before."""
        every = list(peer_ids)
        return sorted(_random.sample(every, len(every)), key=self.rank)

    def chosen(self, peer_ids: Iterable[str], most: int) -> list[str]:
        """Return at most `most` peers to ask: the rested ones, or all if nobody is."""
        every = self.ordered(peer_ids)
        return ([peer for peer in every if not self.is_resting(peer)] or every)[:most]
