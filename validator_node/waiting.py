"""The queue of submissions that a node has taken in and the state has not admitted.

Rules:
1. What waits keeps the order in which it came, for each hotkey. Who takes from the queue learns how
   many of the same hotkey came earlier and wait still, so that the oldest go first.
2. Each entry has a time at which it is this node's turn again to ask for its admission.
3. The queue drops nothing by itself. Its owner bounds it by `len` and by `of_hotkey`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from protocol.records.submission import SignedSubmission


@dataclass(slots=True)
class _Entry:
    signed: SignedSubmission
    due: float


@dataclass(frozen=True, slots=True)
class Due:
    """A submission whose turn it is; `ahead` is how many of its hotkey wait before it."""

    submission_id: bytes
    signed: SignedSubmission
    ahead: int


class WaitingQueue:
    """Submissions in the order they came, by id."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._of_hotkey: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, submission_id: bytes) -> bool:
        return submission_id in self._entries

    def of_hotkey(self, hotkey: bytes) -> int:
        """Return how many submissions of a hotkey wait."""
        return self._of_hotkey[hotkey]

    def add(self, signed: SignedSubmission, due: float) -> None:
        """Put a submission at the end; one that waits already only gets its new turn."""
        submission_id = signed.submission.submission_id
        if submission_id not in self._entries:
            self._of_hotkey[signed.submission.hotkey] += 1
        self._entries[submission_id] = _Entry(signed, due)

    def postpone(self, submission_id: bytes, due: float) -> None:
        """Set the next turn of a submission that waits; it keeps its place."""
        self._entries[submission_id].due = due

    def remove(self, submission_id: bytes) -> None:
        """Forget a submission, if it waits."""
        entry = self._entries.pop(submission_id, None)
        if entry is None:
            return
        hotkey = entry.signed.submission.hotkey
        self._of_hotkey[hotkey] -= 1
        if not self._of_hotkey[hotkey]:
            del self._of_hotkey[hotkey]

    def due(self, now: float) -> list[Due]:
        """Return what has its turn by `now`, in order (rules 1 and 2)."""
        seen: Counter[bytes] = Counter()
        found = []
        for submission_id, entry in self._entries.items():
            hotkey = entry.signed.submission.hotkey
            if entry.due <= now:
                found.append(Due(submission_id, entry.signed, seen[hotkey]))
            seen[hotkey] += 1
        return found
