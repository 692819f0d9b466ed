"""The bodies of submissions that travel by hash, on their way here.

Rules:
1. *Fetching*, between intake and admission: an entry is a submission that passed every check but
   that of its body. It waits until this node holds the verified body, or until `BODY_DEADLINE_S`
   have passed. Only numbers wait here, no bodies.
2. *Owed*, after admission: this validator owes a verdict and lacks the body. That wait has no
   deadline of its own: it ends with the body, or when the network has ended the submission
   (`forget`). An entry that is fetched when others admit its submission becomes owed, with all that
   is known of it; what a node that owes nothing has not begun is withdrawn.
3. The body is looked for in the store, then at the peers that forwarded the submission, at its
   author and at the validators in a random order, in fair turns of the hotkeys (`slots`).
4. Fetching entries are bounded for each hotkey and in all. When there are too many in all, the
   newest one of the hotkey that has cost the most, or among equals waits for most, gives way to a
   hotkey that has cost less, or waits for fewer. Owed ones are bounded by the state
   (`registry.pending`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from protocol.codec import sha256
from protocol.records.submission import MAX_BODY_BYTES, PostedSubmission, Submission
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.blobs.queue import BlobQueue, Wanted
from validator_node.blobs.turns import shuffled

BODY_DEADLINE_S = 120.0
TICK_S = 0.25
MAX_OF_HOTKEY = 8
MAX_BYTES_OF_HOTKEY = 4 * MAX_BODY_BYTES
"""Bytes that have been announced; what is in memory is bounded by the queue."""
MAX_IN_ALL = 256
MAX_PEERS = 6
"""Peers that brought a submission and are asked for its body."""


@dataclass
class _Entry:
    """A submission whose body is awaited."""

    submission: Submission
    posted: PostedSubmission | None
    """What waits for its admission; None if that is over."""
    peers: list[str]
    """Who is asked before the validators."""
    message: bytes = b""
    """SHA-256 of the gossip message it came in."""
    due: float = float("inf")
    on_owed: Callable[[], None] | None = None
    """What waits for its evaluation."""


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
    on_refused: Callable[[PostedSubmission, str], None]
    """It is awaited no longer: `body_unavailable` in time, or `busy` with others'."""


class AwaitedBodies:
    """Fetches the bodies of submissions."""

    def __init__(
        self, fetcher: BlobFetcher, callbacks: BodyCallbacks, now: Callable[[], float]
    ) -> None:
        self.queue = BlobQueue(fetcher.asking, now=now)
        self._do = callbacks
        self._now = now
        self._entries: dict[bytes, _Entry] = {}
        self._added = trio.Event()

    def __len__(self) -> int:
        return len(self._fetching())

    def __contains__(self, submission_id: bytes) -> bool:
        entry = self._entries.get(submission_id)
        return entry is not None and entry.posted is not None

    @property
    def owed(self) -> int:
        """How many admitted submissions lack their body."""
        return sum(entry.on_owed is not None for entry in self._entries.values())

    @property
    def announced_bytes(self) -> int:
        """Bytes of all the bodies that are awaited."""
        return sum(entry.submission.body_size for entry in self._entries.values())

    def _fetching(self) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.posted is not None]

    # --- between intake and admission --------------------------------------------------------

    def has_room_for(self, submissions: Sequence[Submission]) -> bool:
        """Return whether all of these can be added (rule 4)."""
        every = [*(entry.submission for entry in self._fetching()), *submissions]
        for hotkey in {submission.hotkey for submission in submissions}:
            sizes = [s.body_size for s in every if s.hotkey == hotkey]
            if len(sizes) > MAX_OF_HOTKEY or sum(sizes) > MAX_BYTES_OF_HOTKEY:
                return False
        return self._giving_way(submissions) is not None

    def _giving_way(self, submissions: Sequence[Submission]) -> list[_Entry] | None:
        """Return whose place these take; None if nobody has to give way to them."""
        fetching = self._fetching()
        counts = Counter(entry.submission.hotkey for entry in fetching)
        added = Counter(submission.hotkey for submission in submissions)
        debts = {hotkey: self.queue.debt_steps(hotkey) for hotkey in counts.keys() | added.keys()}
        ours = max(((debts[one], counts[one] + count) for one, count in added.items()), default=())
        chosen: list[_Entry] = []
        while len(fetching) + len(submissions) - len(chosen) > MAX_IN_ALL:
            worst = max(counts, key=lambda one: (debts[one], counts[one]), default=None)
            if worst is None or worst in added or (debts[worst], counts[worst]) <= ours:
                return None
            counts[worst] -= 1
            its = [entry for entry in fetching if entry.submission.hotkey == worst]
            chosen.append(its[counts[worst]])
        return chosen

    def add(self, posted: PostedSubmission, message: bytes, peer_id: str) -> None:
        """Await a body; the caller has asked `has_room_for`. `message` is what it came in."""
        submission = posted.signed.submission
        if submission.submission_id in self._entries:
            return
        for entry in self._giving_way([submission]) or ():
            self._refuse(entry, "busy")
        self._want(
            _Entry(
                submission=submission,
                posted=posted,
                peers=[peer_id],
                message=sha256(message),
                due=self._now() + BODY_DEADLINE_S,
            )
        )

    def note_author(self, message: bytes, author: str) -> None:
        """Ask the author of a gossip message as well for the bodies that came announced in it."""
        if not self._entries:
            return
        digest = sha256(message)
        for entry in self._entries.values():
            if entry.message == digest and author not in entry.peers:
                entry.peers.insert(1, author)

    def note_peer(self, submission_id: bytes, peer_id: str) -> None:
        """Ask one more peer for the body of a submission: it brought it as well."""
        entry = self._entries.get(submission_id)
        if entry is not None and peer_id not in entry.peers and len(entry.peers) < MAX_PEERS:
            entry.peers.append(peer_id)

    def withdraw(self, submission_id: bytes) -> None:
        """Admit a submission no longer: others have. Neither callback comes for it (rule 2)."""
        entry = self._entries.get(submission_id)
        if entry is not None:
            entry.posted, entry.due = None, float("inf")
            if entry.on_owed is None:
                self.forget(submission_id)

    # --- after admission ---------------------------------------------------------------------

    def owe(self, submission: Submission, on_here: Callable[[], None]) -> None:
        """Await the body of an admitted submission; `on_here` is called once it is in the store."""
        known = self._entries.get(submission.submission_id)
        if known is None:
            self._want(_Entry(submission=submission, posted=None, peers=[], on_owed=on_here))
        else:
            known.on_owed = on_here
            self._want(known)

    def forget(self, submission_id: bytes) -> None:
        """Await a body no longer: its submission has ended. No callback comes for it."""
        if self._entries.pop(submission_id, None) is not None:
            self.queue.drop(submission_id)

    # --- fetching ----------------------------------------------------------------------------

    def _want(self, entry: _Entry) -> None:
        submission = entry.submission
        self._entries[submission.submission_id] = entry
        wanted = Wanted(
            digest=submission.body_hash,
            size=submission.body_size,
            max_bytes=MAX_BODY_BYTES,
            holders=lambda: [*entry.peers, *shuffled(self._do.validators())],
            is_here=lambda: self._do.has(submission),
            on_body=lambda body: self._on_body(entry, body),
        )
        is_owed = entry.on_owed is not None
        self.queue.want(submission.submission_id, submission.hotkey, wanted, urgent=is_owed)
        self._added.set()

    def _on_body(self, entry: _Entry, body: bytes | None) -> None:
        del self._entries[entry.submission.submission_id]
        if body is not None:
            self._do.keep(entry.submission.body_hash, body)
        if entry.posted is not None:
            self._do.on_here(entry.posted)
        if entry.on_owed is not None:
            entry.on_owed()

    async def run(self) -> None:
        """Fetch what is awaited, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.queue.run)
            while True:
                self._added = trio.Event()
                for entry in self._fetching():
                    if entry.due <= self._now():
                        self._refuse(entry, "body_unavailable")
                with trio.move_on_after(TICK_S if self._entries else float("inf")):
                    await self._added.wait()

    def _refuse(self, entry: _Entry, reason: str) -> None:
        """Admit a submission no longer, and say why."""
        posted, submission_id = entry.posted, entry.submission.submission_id
        if posted is not None:
            self.withdraw(submission_id)
            self._do.on_refused(posted, reason)
