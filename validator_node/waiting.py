"""The queue of submissions that a node has taken in and the state has not admitted.

Rules:
1. What waits keeps the order in which it came, for each hotkey. Who takes from the queue learns how
   many of the same hotkey came earlier and wait still, so that the oldest go first.
2. Each entry has a time at which somebody looks at it again. To take what is due costs what is
   taken, however much waits.
3. The queue drops nothing by itself. Its owner bounds it by `len` and by `of_hotkey`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

from protocol.records.submission import SignedSubmission


@dataclass(slots=True)
class _Entry:
    signed: SignedSubmission
    since: float
    place: int = 0
    """Of its newest time in the heap."""


@dataclass(frozen=True, slots=True)
class Due:
    """A submission that is due; `ahead` is how many of its hotkey wait before it."""

    submission_id: bytes
    signed: SignedSubmission
    ahead: int
    since: float
    """From when on its turns count."""


class WaitingQueue:
    """Submissions in the order they came, by id."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._of_hotkey: dict[bytes, dict[bytes, None]] = {}
        self._dues: list[tuple[float, int, bytes]] = []
        """A heap. What was postponed or removed stays in it until its old time has come."""
        self._order = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, submission_id: bytes) -> bool:
        return submission_id in self._entries

    def of_hotkey(self, hotkey: bytes) -> int:
        """Return how many submissions of a hotkey wait."""
        return len(self._of_hotkey.get(hotkey, ()))

    def add(self, signed: SignedSubmission, since: float, due: float) -> None:
        """Put a submission at the end; one that waits already keeps its place."""
        submission_id = signed.submission.submission_id
        if submission_id not in self._entries:
            self._of_hotkey.setdefault(signed.submission.hotkey, {})[submission_id] = None
        self._entries[submission_id] = _Entry(signed, since)
        self._push(due, submission_id)

    def postpone(self, submission_id: bytes, due: float, *, since: float | None = None) -> None:
        """Look at a submission again later; `since` lets its turns count anew from then on."""
        if since is not None:
            self._entries[submission_id].since = since
        self._push(due, submission_id)

    def _push(self, due: float, submission_id: bytes) -> None:
        place = self._entries[submission_id].place = next(self._order)
        heapq.heappush(self._dues, (due, place, submission_id))

    def remove(self, submission_id: bytes) -> None:
        """Forget a submission, if it waits."""
        entry = self._entries.pop(submission_id, None)
        if entry is None:
            return
        hotkey = entry.signed.submission.hotkey
        del self._of_hotkey[hotkey][submission_id]
        if not self._of_hotkey[hotkey]:
            del self._of_hotkey[hotkey]

    def due(self, now: float, limit: int) -> list[Due]:
        """Take at most `limit` of what is due by `now`; the caller postpones or removes it.

        What came first is first among what is due at the same time.
        """
        found: list[Due] = []
        while self._dues and self._dues[0][0] <= now and len(found) < limit:
            _, place, submission_id = heapq.heappop(self._dues)
            entry = self._entries.get(submission_id)
            if entry is not None and entry.place == place:
                ahead = self._ahead(entry.signed.submission.hotkey, submission_id)
                found.append(Due(submission_id, entry.signed, ahead, entry.since))
        return found

    def _ahead(self, hotkey: bytes, submission_id: bytes) -> int:
        return next(i for i, other in enumerate(self._of_hotkey[hotkey]) if other == submission_id)
