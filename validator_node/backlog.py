"""How much of what is taken in has not ended, and how much more the network can take.

Rules:
1. Nothing is taken in that could not be settled within `WITHIN_S` at the rate at which submissions
   end now. Whoever is refused learns when to come again. Better a miner who waits than a network
   that grows slower under what it has accepted.
2. The rate is that of the last `WINDOW_S`, or of as much of them as something was open: an idle
   network has shown nothing. Until it is known, and always, `CREDIT` submissions may be open.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

WITHIN_S = 25.0
WINDOW_S = 10.0
SHORTEST_S = 2.0
"""A rate is measured over no less."""
CREDIT = 512
AGAIN_AT_MOST_S = 60


class Backlog:
    """The open submissions of a node; `count_open` counts them."""

    def __init__(self, now: Callable[[], float], count_open: Callable[[], int]) -> None:
        self._now = now
        self._count_open = count_open
        self._busy_since: float | None = None
        self._ended: deque[tuple[float, int]] = deque()
        """When submissions ended, and how many, in the last `WINDOW_S`."""
        self._rate = 0.0

    def note_ended(self, count: int) -> None:
        """Note that submissions have ended now."""
        now = self._now()
        self._measure(now)
        if count:
            self._ended.append((now, count))

    def _measure(self, now: float) -> None:
        while self._ended and self._ended[0][0] <= now - WINDOW_S:
            self._ended.popleft()
        if not self._count_open():
            self._busy_since = None
            return
        if self._busy_since is None:
            self._busy_since = now
        begin = max(self._busy_since, now - WINDOW_S)
        if now - begin >= SHORTEST_S:
            counted = sum(count for at, count in self._ended if at > begin)
            self._rate = counted / (now - begin)

    def retry_after_s(self, more: int = 1, credit: int = CREDIT) -> int:
        """Return 0 if `more` submissions may be taken in, else the seconds until they may.

        So many may be open as end within `WITHIN_S`, and `credit` in any case.
        """
        self._measure(self._now())
        may_be_open = max(credit, int(self._rate * WITHIN_S))
        over = self._count_open() + more - may_be_open
        if over <= 0:
            return 0
        # A tenth besides, so that not everybody comes back to one free place.
        wait_s = (over + may_be_open / 10) / max(self._rate, 1.0)
        return min(max(1, math.ceil(wait_s)), AGAIN_AT_MOST_S)
