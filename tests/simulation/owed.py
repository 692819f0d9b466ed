"""How long decisions take, on the simulation's clock: what a driver measures for its engine."""

from __future__ import annotations

from consensus.inputs import Timer


class Owed:
    """From when on a decision is owed, in milliseconds."""

    def __init__(self) -> None:
        self._since: int | None = None

    def started(self, timer: Timer, now: int) -> None:
        """Note a timer that was started."""
        if timer is Timer.PROGRESS and self._since is None:
            self._since = now

    def cancelled(self, timer: Timer) -> None:
        """Note a timer that was stopped."""
        if timer is Timer.PROGRESS:
            self._since = None

    def decided(self, now: int) -> int:
        """Return for how long the decision that was just made was owed; 0 if that is not known."""
        since, self._since = self._since, now
        return 0 if since is None else now - since
