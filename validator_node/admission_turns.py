"""Whose turn it is to ask for an admission, and how long to wait for those before.

Rules:
1. Each submission has its own order of validators, by its id: the first one asks at once. The next
   asks only when nobody's word for it is on its way, and one *patience* after the one before.
2. The patience is what it takes here from asking to admission: the average and four deviations,
   and no less than the oldest request of our own has waited already. A network that is busy makes
   everybody patient: a second word for what waits its turn would only make it busier.
3. It is never below `FLOOR_S` and never above `CEILING_S`: a validator that is dead, or withholds
   what it has said, delays its share of the submissions by no more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from consensus.patience import Pace

FLOOR_S = 1.0
CEILING_S = 30.0


class AdmissionTurns:
    """One validator's turns, by its own measurements."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pace = Pace()
        self._asked: OrderedDict[bytes, float] = OrderedDict()
        """What this validator has asked for and is not admitted, and when, the oldest first."""

    @staticmethod
    def rank(submission_id: bytes, me: int, size: int) -> int:
        """Return how many of `size` validators come before validator `me` (rule 1)."""
        return (me - int.from_bytes(submission_id[:4], "big")) % size

    @property
    def patience_s(self) -> float:
        """How long to wait for whose turn comes before ours (rules 2 and 3)."""
        oldest_s = self._now() - next(iter(self._asked.values())) if self._asked else 0.0
        return min(max(self._pace.patience_ms / 1000, oldest_s, FLOOR_S), CEILING_S)

    def asked(self, submission_id: bytes) -> None:
        """Note that this validator asks for an admission now."""
        self._asked[submission_id] = self._now()
        self._asked.move_to_end(submission_id)

    def ended(self, submission_id: bytes, *, admitted: bool) -> None:
        """Note that a submission is admitted, or needs it no more; from the former it learns."""
        since = self._asked.pop(submission_id, None)
        if since is not None and admitted:
            self._pace.learn(max(1, round((self._now() - since) * 1000)))
