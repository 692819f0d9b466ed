"""Token buckets: how much one hotkey may ask of this node."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

BURST_S = 4.0
"""Seconds of budget that may be saved up."""
MAX_KEYS = 8192


class Budget:
    """One bucket a key, the least recently used forgotten first."""

    def __init__(self, per_second: float, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._now = now
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def level(self, key: bytes) -> float:
        """Return what the key could spend now."""
        now = self._now()
        full = self._per_second * BURST_S
        level, at = self._buckets.get(key, (full, now))
        return min(full, level + (now - at) * self._per_second)

    def spend(self, key: bytes, cost: float = 1.0) -> bool:
        """Take `cost` from the key's budget; False if it does not have that much."""
        now = self._now()
        full = self._per_second * BURST_S
        level, at = self._buckets.pop(key, (full, now))
        level = min(full, level + (now - at) * self._per_second)
        allowed = level >= cost
        self._buckets[key] = (level - cost if allowed else level, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return allowed
