"""Admissions: the submissions that a node holds and the state has not admitted, and who asks.

Rules:
1. Each admission is asked for once: the submission's first validator speaks at once, the others
   each in turn, and only if no word of anybody is on its way any more (`admission_turns`).
2. The state admits only so many submissions of a hotkey at a time (`registry.pending`). What it has
   no room for waits here until it has, the oldest first, and is asked for again at its turns until
   it expires. The oldest is asked for even without room: a request that is refused is ordered all
   the same, and the slots must go on to the deadline of what is pending, also when nobody else has
   anything to say.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from protocol.records.submission import SignedSubmission, Submission
from registry.pending import room
from registry.submissions import why_inadmissible
from validator_node.admission_turns import AdmissionTurns
from validator_node.speaker import Speaker
from validator_node.store import Store
from validator_node.waiting import Due, WaitingQueue

TICK_S = 0.25
SLICE = 64
"""Waiting submissions looked at in a row."""


class Admissions:
    """Asks for what waits. `refuse` is told of what became inadmissible while it waited."""

    def __init__(
        self,
        store: Store,
        speaker: Speaker,
        *,
        me: int | None,
        now: Callable[[], float],
        is_asked_for: Callable[[bytes], bool],
        refuse: Callable[[Submission, str], None],
    ) -> None:
        self._store = store
        self._speaker = speaker
        self._me = me
        self._now = now
        self._is_asked_for = is_asked_for
        self._refuse = refuse
        self._pending_limit = store.genesis.parameters.max_pending_per_hotkey
        self._turns = AdmissionTurns(now)
        self.waiting = WaitingQueue()
        self.held_back = 0
        """Turns at which a submission was not asked for, because the state had no room for it."""

    def begin_epoch(self, me: int | None) -> None:
        """Take this node's turns by its index in a new epoch's set."""
        self._me = me

    def add(self, signed: SignedSubmission) -> None:
        """Queue a submission whose body is in the store; ask at once if that is our turn."""
        submission_id = signed.submission.submission_id
        now = self._now()
        ahead = self.waiting.of_hotkey(signed.submission.hotkey)
        rank = self._rank(submission_id)
        wait_s = (rank or len(self._store.voters)) * self._turns.patience_s
        self.waiting.add(signed, now, now + wait_s)
        if rank == 0 and not self._is_said(submission_id):
            self._ask_for(signed, ahead)

    def _rank(self, submission_id: bytes) -> int:
        size = len(self._store.voters)
        return size if self._me is None else self._turns.rank(submission_id, self._me, size)

    def _is_said(self, submission_id: bytes) -> bool:
        """Whether somebody's word for it is on its way to be ordered."""
        return self._speaker.holds("admit", submission_id) or self._is_asked_for(submission_id)

    def _ask_for(self, signed: SignedSubmission, ahead: int) -> None:
        """Ask for an admission, or hold it back while the state has no room for it (rule 2).

        `ahead` is how many older ones of the hotkey wait here: they come first.
        """
        hotkey = signed.submission.hotkey
        if ahead and ahead >= room(self._store.tree.view(), hotkey, self._pending_limit):
            self.held_back += 1
        elif self._speaker.add(signed) and self._me is not None:
            self._turns.asked(signed.submission_id)

    def end(self, submission_id: bytes, *, admitted: bool) -> None:
        """Forget a submission: the state has admitted or ended it, or will never admit it."""
        self.waiting.remove(submission_id)
        self._turns.ended(submission_id, admitted=admitted)
        self._speaker.drop("admit", submission_id)

    async def run(self) -> None:
        """Ask for what the validators before us have left waiting, `SLICE` in a row, for ever."""
        while True:
            due = self.waiting.due(self._now(), SLICE)
            for entry in due:
                self._take_turn(entry)
            await trio.sleep(0 if len(due) == SLICE else TICK_S)

    def _take_turn(self, entry: Due) -> None:
        submission = entry.signed.submission
        reason = why_inadmissible(self._store.tree.view(), submission)
        if reason is None and not self._store.has_body(submission.body_hash):
            reason = "body_unavailable"  # it waited longer than this node keeps bodies
        if reason is not None:
            self.end(entry.submission_id, admitted=False)
            if reason != "duplicate":  # the state has it
                self._refuse(submission, reason)
            return
        now, patience_s = self._now(), self._turns.patience_s
        rank, size = self._rank(entry.submission_id), len(self._store.voters)
        turn_at = entry.since + rank * patience_s
        if self._is_said(entry.submission_id):  # should that be in vain, the order begins anew
            again_at = now + (rank or size) * patience_s
            self.waiting.postpone(entry.submission_id, again_at, since=now)
        elif now < turn_at:  # decisions have become slower since it came
            self.waiting.postpone(entry.submission_id, turn_at)
        else:
            self._ask_for(entry.signed, entry.ahead)
            self.waiting.postpone(entry.submission_id, now + size * self._turns.patience_s)
