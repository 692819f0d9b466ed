"""The engine's timers on trio's clock, and how long decisions take.

Rules:
1. A timer that was set again has not run out, whatever the time: who looks (`fired`) has taken its
   inputs before.
2. A decision is owed from when the progress timer was started, or since the decision before. The
   time from then to the decision is what the engine's patience learns from (`consensus.patience`).
"""

from __future__ import annotations

import trio

from consensus.inputs import Timer


class Timers:
    """The timers of one engine."""

    def __init__(self) -> None:
        self._due: dict[Timer, float] = {}
        self._owed_since: float | None = None

    def __contains__(self, timer: Timer) -> bool:
        return timer in self._due

    @property
    def next_at(self) -> float:
        """When the next timer runs out, on trio's clock; infinite if none runs."""
        return min(self._due.values(), default=float("inf"))

    def set(self, timer: Timer, delay_ms: int) -> None:
        """Start a timer, or start it again."""
        now = trio.current_time()
        if timer is Timer.PROGRESS and self._owed_since is None:
            self._owed_since = now
        self._due[timer] = now + delay_ms / 1000

    def cancel(self, timer: Timer) -> None:
        """Stop a timer, if it runs."""
        self._due.pop(timer, None)
        if timer is Timer.PROGRESS:
            self._owed_since = None

    def fired(self) -> list[Timer]:
        """Return the timers that have run out; they run no more."""
        now = trio.current_time()
        found = [timer for timer, at in self._due.items() if at <= now]
        for timer in found:
            del self._due[timer]
        return found

    def decided(self) -> int:
        """Return for how many milliseconds the decision that was just made was owed (rule 2)."""
        now = trio.current_time()
        since, self._owed_since = self._owed_since, now
        return 0 if since is None else round((now - since) * 1000)
