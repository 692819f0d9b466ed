"""Submissions whose bodies are on their way: the state `fetching`, between intake and admission.

Rules:
1. An entry is a submission that passed every check but that of its body. It waits, bounded in
   count and bytes for its hotkey and in all, until this node holds the verified body, or until
   `BODY_DEADLINE_S` have passed. Only numbers wait here, no bodies.
2. The body is looked for in the store, then at the peer that forwarded the submission, at its
   author and at the validators in a random order. What brought nothing is tried again every
   `RETRY_S`: they may be fetching it themselves.
3. `MAX_ACTIVE` bodies are fetched at a time, one of a hotkey, the longest waiting first: a hotkey
   whose bodies never come holds up its own.
4. A withdrawn entry is not begun any more. If it has begun it is finished: whoever withdrew it
   because others have admitted it needs the body all the more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from protocol.codec import sha256
from protocol.records.submission import MAX_BODY_BYTES, PostedSubmission, Submission
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.blobs.transfer import BlobUnavailableError
from validator_node.blobs.turns import shuffled

BODY_DEADLINE_S = 120.0
RETRY_S = 2.0
TICK_S = 0.25
MAX_ACTIVE = 4
MAX_OF_HOTKEY = 8
MAX_BYTES_OF_HOTKEY = 4 * MAX_BODY_BYTES
MAX_IN_ALL = 256
MAX_BYTES_IN_ALL = 64 * MAX_BODY_BYTES
"""Bytes that have been announced; what is in memory is bounded by `MAX_ACTIVE` bodies."""

log = structlog.get_logger(__name__)


@dataclass
class _Entry:
    """A submission whose body is awaited."""

    posted: PostedSubmission
    message: bytes
    """SHA-256 of the gossip message it came in."""
    peers: list[str]
    """Who is asked before the validators."""
    due: float
    not_before: float = field(default=0.0)
    is_active: bool = False

    @property
    def submission(self) -> Submission:
        return self.posted.signed.submission


@dataclass(frozen=True, kw_only=True)
class BodyCallbacks:
    """What the owner of the submissions does for them."""

    validators: Callable[[], Iterable[str]]
    """The peer ids of the validators that are known."""
    has: Callable[[Submission], bool]
    """Whether the store holds the verified body."""
    keep: Callable[[bytes, bytes], None]
    """Stores a verified body under its hash."""
    on_here: Callable[[PostedSubmission], None]
    """The body is in the store."""
    on_unavailable: Callable[[PostedSubmission], None]
    """The body has not come in time."""


class AwaitedBodies:
    """Fetches the bodies of submissions that travel by hash."""

    def __init__(
        self, fetcher: BlobFetcher, callbacks: BodyCallbacks, now: Callable[[], float]
    ) -> None:
        self._fetcher = fetcher
        self._do = callbacks
        self._now = now
        self._entries: dict[bytes, _Entry] = {}
        self._withdrawn: set[bytes] = set()
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, submission_id: bytes) -> bool:
        return submission_id in self._entries and submission_id not in self._withdrawn

    @property
    def announced_bytes(self) -> int:
        """Bytes of all the bodies that are awaited."""
        return sum(entry.submission.body_size for entry in self._entries.values())

    def has_room_for(self, submissions: Sequence[Submission]) -> bool:
        """Return whether all of these can be added (rule 1)."""
        waiting = [entry.submission for entry in self._entries.values()]
        every = [*waiting, *submissions]
        if len(every) > MAX_IN_ALL or sum(s.body_size for s in every) > MAX_BYTES_IN_ALL:
            return False
        for hotkey in {submission.hotkey for submission in submissions}:
            sizes = [s.body_size for s in every if s.hotkey == hotkey]
            if len(sizes) > MAX_OF_HOTKEY or sum(sizes) > MAX_BYTES_OF_HOTKEY:
                return False
        return True

    def add(self, posted: PostedSubmission, message: bytes, peer_id: str) -> None:
        """Await a body; the caller has asked `has_room_for`. `message` is what it came in."""
        submission_id = posted.signed.submission.submission_id
        self._withdrawn.discard(submission_id)
        if submission_id in self._entries:
            return
        self._entries[submission_id] = _Entry(
            posted=posted,
            message=sha256(message),
            peers=[peer_id],
            due=self._now() + BODY_DEADLINE_S,
        )
        self._changed.set()

    def note_author(self, message: bytes, author: str) -> None:
        """Ask the author of a gossip message as well for the bodies that came announced in it."""
        if not self._entries:
            return
        digest = sha256(message)
        for entry in self._entries.values():
            if entry.message == digest and author not in entry.peers:
                entry.peers = [entry.peers[0], author]

    def withdraw(self, submission_id: bytes) -> None:
        """Await a body no longer (rule 4); neither callback comes for it."""
        entry = self._entries.get(submission_id)
        if entry is not None and entry.is_active:
            self._withdrawn.add(submission_id)
        else:
            self._entries.pop(submission_id, None)

    async def run(self) -> None:
        """Fetch what is awaited, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                self._expire()
                for entry in self._due():
                    entry.is_active = True
                    nursery.start_soon(self._attempt, entry)
                with trio.move_on_after(TICK_S if self._entries else float("inf")):
                    await self._changed.wait()

    def _expire(self) -> None:
        """End what has waited too long without having been begun."""
        now = self._now()
        for submission_id, entry in list(self._entries.items()):
            if entry.due <= now and not entry.is_active:
                del self._entries[submission_id]
                self._do.on_unavailable(entry.posted)

    def _due(self) -> list[_Entry]:
        """Return what to begin now (rule 3)."""
        now = self._now()
        active = {e.submission.hotkey for e in self._entries.values() if e.is_active}
        count = sum(entry.is_active for entry in self._entries.values())
        chosen = []
        for entry in self._entries.values():
            hotkey = entry.submission.hotkey
            if count >= MAX_ACTIVE or entry.not_before > now or hotkey in active:
                continue
            chosen.append(entry)
            active.add(hotkey)
            count += 1
        return chosen

    async def _attempt(self, entry: _Entry) -> None:
        submission = entry.submission
        submission_id = submission.submission_id
        here = await self._get(entry)
        entry.is_active = False
        self._changed.set()
        withdrawn = submission_id in self._withdrawn
        if not here and not withdrawn and self._now() < entry.due:
            entry.not_before = self._now() + RETRY_S
            self._entries[submission_id] = self._entries.pop(submission_id)  # to the back
            return
        del self._entries[submission_id]
        self._withdrawn.discard(submission_id)
        if withdrawn:
            return
        if here:
            self._do.on_here(entry.posted)
        else:
            self._do.on_unavailable(entry.posted)

    async def _get(self, entry: _Entry) -> bool:
        """Bring the body into the store; return whether it is there."""
        submission = entry.submission
        if self._do.has(submission):
            return True
        left = entry.due - self._now()
        if left <= 0:
            return False
        try:
            body = await self._fetcher.fetch(
                submission.body_hash,
                size=submission.body_size,
                holders=lambda: [*entry.peers, *shuffled(self._do.validators())],
                max_bytes=MAX_BODY_BYTES,
                deadline_s=left,
            )
        except BlobUnavailableError as error:
            log.info(
                "body not here yet",
                submission=submission.submission_id.hex()[:16],
                reason=str(error),
            )
            return False
        self._do.keep(submission.body_hash, body)
        return True
