"""Why submissions were refused, and when their miners may come again."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable

REMEMBERED = 4096


class RefusedError(Exception):
    """A submission that this node does not take; `reason` is the counter's label.

    After `retry_after_s` it may be taken; 0 for never.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Refusals:
    """Counts refusals by reason and remembers the newest, so that a miner can be told."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        """Why, and from when on it may be taken: 0 for never."""
        self.counts: Counter[str] = Counter()

    def note(self, submission_id: bytes, reason: str, retry_after_s: float = 0.0) -> None:
        """Remember a refusal; what is here already was refused for no fault of its own."""
        self.counts[reason] += 1
        if reason == "duplicate":
            return
        again_at = self._now() + retry_after_s if retry_after_s else 0.0
        self._known[submission_id] = reason, again_at
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, submission_id: bytes) -> None:
        """Forget a refusal: it was taken after all."""
        self._known.pop(submission_id, None)

    def why(self, submission_id: bytes) -> tuple[str, int] | None:
        """Return why a submission was refused not long ago, or None.

        With it the seconds after which it may be published again, 0 if that is of no use.
        """
        known = self._known.get(submission_id)
        if known is None:
            return None
        reason, at = known
        return reason, max(1, math.ceil(at - self._now())) if at else 0
