"""How long decisions take, measured at the primary: from proposing a batch to executing it."""

from __future__ import annotations

import math
from collections import OrderedDict, deque

KEPT = 8192
_OPEN_LIMIT = 256


class Latencies:
    """The newest decision times of one node, in milliseconds."""

    def __init__(self) -> None:
        self._open: OrderedDict[bytes, float] = OrderedDict()
        self.decision_ms: deque[float] = deque(maxlen=KEPT)

    def proposed(self, body_root: bytes, now: float) -> None:
        """Start the clock of an own proposal."""
        self._open[body_root] = now
        if len(self._open) > _OPEN_LIMIT:
            self._open.popitem(last=False)

    def decided(self, body_root: bytes, now: float) -> None:
        """Stop the clock if the proposal was ours."""
        started = self._open.pop(body_root, None)
        if started is not None:
            self.decision_ms.append((now - started) * 1000)


def percentile(values: list[float], percent: float) -> float:
    """Return the nearest-rank percentile of `values`; 0 if there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = math.ceil(percent * len(ordered) / 100)
    return ordered[min(max(rank, 1), len(ordered)) - 1]
