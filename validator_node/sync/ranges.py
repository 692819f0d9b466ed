"""Which part of the log is asked of whom, and what has come of it. Pure.

Rules:
1. The log from the next slot to be executed on is divided into spans of `SPAN` slots, as many as
   one reply holds. Only the first `AHEAD` spans are asked for: that bounds what waits here.
2. Each span is asked of one source at a time, the first one that nobody brings before the others.
   A source that brought only a part of its span goes on where its reply ended.
3. The first span is what everything waits for. When it has been asked of one source for `HEDGE_S`,
   another one that has nothing else to do is asked for it as well; what comes first counts.
4. More than `MAX_WAITING_BYTES` that cannot be executed yet, and only the first span is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from consensus.messages import DecidedSlot
from validator_node.sync.records import MAX_LOG_SLOTS

SPAN: Final = MAX_LOG_SLOTS
AHEAD: Final = 4
HEDGE_S: Final = 2.0
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class _Span:
    first: int
    end: int
    """The slot after its last one."""
    next: int
    """The first slot of it that is not here."""
    asked: dict[str, float] = field(default_factory=dict)
    """Who is asked for it, and since when."""


class Ranges:
    """The window of the log that is being read."""

    def __init__(self, first: int) -> None:
        """`first` is the first slot that is missing."""
        self._spans: list[_Span] = []
        self._end = first
        self._slots: dict[int, tuple[DecidedSlot, int]] = {}
        self.next = first
        """The first slot that `take` has not returned."""
        self.waiting_bytes = 0
        self._extend()

    def _extend(self) -> None:
        self._spans = [s for s in self._spans if s.end > self.next]
        while len(self._spans) < AHEAD:
            self._spans.append(_Span(self._end, self._end + SPAN, self._end))
            self._end += SPAN

    def ask(self, source: str, first_held: int, last: int, now: float) -> int | None:
        """Return the slot from which a source is to be asked, None if it has nothing to do now.

        It holds the log from `first_held` to `last`.
        """
        wanted = [s for s in self._spans if s.next < s.end and first_held <= s.next <= last]
        free = [s for s in wanted if not s.asked]
        head = self._spans[0]
        if self.waiting_bytes > MAX_WAITING_BYTES:
            free = [s for s in free if s is head]
        if not free and head in wanted and source not in head.asked:
            free = [head] if now - min(head.asked.values()) >= HEDGE_S else []
        if not free:
            return None
        free[0].asked[source] = now
        return free[0].next

    def needs(self, last: int) -> bool:
        """Whether a source that holds the log up to `last` may still be of use."""
        return self._end <= last or any(s.next < s.end and s.next <= last for s in self._spans)

    def put(self, source: str, slots: Sequence[DecidedSlot], size: int) -> int:
        """Take what a source brought, which is proven; return how many slots were new.

        `size` is the bytes of all of them.
        """
        self.release(source)
        new = 0
        share = size // max(1, len(slots))
        for slot in slots:
            seq = slot.certificate.header.seq
            if seq >= self.next and seq not in self._slots:
                self._slots[seq] = (slot, share)
                self.waiting_bytes += share
                new += 1
        for span in self._spans:
            while span.next < span.end and span.next in self._slots:
                span.next += 1
        return new

    def release(self, source: str) -> None:
        """Note that a source is asked for nothing any more."""
        for span in self._spans:
            span.asked.pop(source, None)

    def take(self) -> tuple[DecidedSlot, ...]:
        """Return the slots that are next in order and here, at most `SPAN`."""
        found: list[DecidedSlot] = []
        while self.next in self._slots and len(found) < SPAN:
            slot, share = self._slots.pop(self.next)
            self.waiting_bytes -= share
            found.append(slot)
            self.next += 1
        self._extend()
        return tuple(found)
