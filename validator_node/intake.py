"""Intake: what a submission must pass before this node forwards, keeps and admits it.

Rules:
1. The topic validator decides before the message is forwarded. A message is all or nothing: one
   malformed, foreign, unsigned, unregistered, oversized or expired submission refuses all of it,
   and so does a message that holds nothing new. Each refusal is counted by reason.
2. Cheap checks come first, that of the hotkey before even the message's author (`glance`); a
   signature is verified only for what everything else would admit. What that says about the peer
   that brought it stands in `refusals`; a message that holds nothing new is useless. The hotkey's
   rate is charged only for what it signed, so that nobody can use up another's.
3. A body of more than a few kilobytes travels by hash. Its submission is judged and forwarded at
   once and then awaits its body (`blobs.awaited`); it costs its hotkey's rate more, by its size.
   Only a submission whose verified body this node holds goes on to rule 4.
4. What passed waits in a bounded queue until the state has admitted it. To spare the network four
   copies of each admission, validators take turns: submission i is admitted at once by validator
   i mod n, by the next one `TURN_S` later if it is still unadmitted, and so on.
5. The state admits only so many submissions of a hotkey at a time (`registry.pending`). What it has
   no room for waits here until it has, the oldest first, and is asked for again at its turns until
   it expires. The oldest is asked for even without room: a request that is refused is ordered all
   the same, and the slots must go on to the deadline of what is pending, also when nobody else has
   anything to say.
6. So that one hotkey does not fill the queue, at most `WAITING_A_PENDING` times as many of its
   submissions wait as may be pending; more are refused as `too_many_pending`.
7. Why a submission was refused is remembered (bounded) so that its miner can be told.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

import trio

from protocol.codec import decode
from protocol.errors import ProofError, ProtocolError
from protocol.records.blob import MAX_CHUNK_BYTES
from protocol.records.submission import (
    MAX_BODY_BYTES,
    PostedSubmission,
    SignedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from registry.access import challenges, neuron
from registry.pending import room
from registry.submissions import why_inadmissible
from storage.errors import BlobDamagedError
from validator_node.batch_check import Checker
from validator_node.blobs.awaited import AwaitedBodies, BodyCallbacks
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.network.gossip import CheckAnswer
from validator_node.rate import BURST_S, Budget
from validator_node.refusals import answer_of
from validator_node.speaker import Speaker
from validator_node.store import Store
from validator_node.waiting import WaitingQueue

MAX_MESSAGE_BYTES = 262_144
TURN_S = 1.0
TICK_S = 0.25
REMEMBERED_REFUSALS = 4096
WAITING_A_PENDING = 2
"""Rule 6. What a hotkey may send at once at the default rate fits in: 200 of 256."""


class RefusedError(Exception):
    """A submission that this node does not take; `reason` is the counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Intake:
    """The submissions this node has taken in and the state has not admitted yet."""

    def __init__(
        self,
        store: Store,
        checker: Checker,
        speaker: Speaker,
        *,
        me: int | None,
        now: Callable[[], float],
        submissions_per_second: float,
        max_pending: int,
        fetcher: BlobFetcher | None = None,
        validators: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Make an intake that takes `max_pending` submissions.

        Without a `fetcher` it takes only what travels inline. `validators` returns the peer ids
        that may hold a body.
        """
        self._store = store
        self._checker = checker
        self._speaker = speaker
        self._me = me
        self._now = now
        self._budget = Budget(submissions_per_second, now)
        self._max_pending = max_pending
        self._rate = submissions_per_second
        self._pending_limit = store.genesis.parameters.max_pending_per_hotkey
        self._waiting = WaitingQueue()
        self.awaited = None if fetcher is None else self._await_bodies(fetcher, validators)
        self._last_read: tuple[bytes, SubmissionMessage] | None = None
        self._refusals: OrderedDict[bytes, str] = OrderedDict()
        self.refused: Counter[str] = Counter()
        self.accepted = 0
        self.held_back = 0
        """Turns at which a submission was not asked for, because the state had no room for it."""

    def _await_bodies(
        self, fetcher: BlobFetcher, validators: Callable[[], Iterable[str]]
    ) -> AwaitedBodies:
        callbacks = BodyCallbacks(
            validators=validators,
            has=self._has_body,
            keep=self._store.put_body,
            on_here=self._on_body,
            on_refused=lambda posted, reason: self._refuse(posted.signed.submission, reason),
        )
        return AwaitedBodies(fetcher, callbacks, self._now)

    def begin_epoch(self, me: int | None) -> None:
        """Take this node's turns by its index in a new epoch's set."""
        self._me = me

    def __len__(self) -> int:
        return len(self._waiting)

    def why_refused(self, submission_id: bytes) -> str | None:
        """Return why a submission was refused here not long ago, or None."""
        return self._refusals.get(submission_id)

    def is_waiting(self, submission_id: bytes) -> bool:
        """Return whether a submission waits here to be admitted."""
        return submission_id in self._waiting

    def is_fetching(self, submission_id: bytes) -> bool:
        """Return whether a submission waits here for its body."""
        return self.awaited is not None and submission_id in self.awaited

    def on_delivered(self, message: bytes, author: str) -> None:
        """Learn who published a message that `check` has passed: it may be asked for bodies."""
        if self.awaited is not None:
            self.awaited.note_author(message, author)

    def topics(self) -> list[str]:
        """Return the gossip topics of the active challenges."""
        network_id = self._store.genesis.network_id
        active = challenges(self._store.tree.view())
        return [submission_topic(network_id, entry.challenge_id) for entry in active]

    def glance(self, data: bytes) -> CheckAnswer | None:
        """Turn a message away that no registered hotkey has anything to do with (rule 2)."""
        message = self._read(data)
        if message is None:
            return CheckAnswer.REJECT
        view = self._store.tree.view()
        for posted in message.posted:
            if neuron(view, posted.signed.submission.hotkey) is None:
                self._refuse(posted.signed.submission, "unregistered")
                return CheckAnswer.USELESS
        return None

    def _read(self, data: bytes) -> SubmissionMessage | None:
        """Decode a message, once for its glance and its check; None, and counted, if it is none."""
        if self._last_read is None or self._last_read[0] != data:
            try:
                message = decode(SubmissionMessage, data, limit_bytes=MAX_MESSAGE_BYTES)
            except ProtocolError as error:
                self.refused[error.reason] += 1
                return None
            self._last_read = data, message
        return self._last_read[1]

    def check(self, topic: str, data: bytes, peer_id: str) -> CheckAnswer:
        """Judge a gossip message from a peer (rule 1); what is accepted is taken in."""
        message = self._read(data)
        if message is None:
            return CheckAnswer.REJECT
        fresh: dict[bytes, PostedSubmission] = {}
        for posted in message.posted:
            submission = posted.signed.submission
            try:
                self._check_one(topic, posted, fresh)
            except RefusedError as refusal:
                self._refuse(submission, refusal.reason)
                if refusal.reason != "duplicate":
                    return answer_of(refusal.reason)
                if self.awaited is not None:
                    self.awaited.note_peer(submission.submission_id, peer_id)
            else:
                fresh[submission.submission_id] = posted
        for posted in fresh.values():
            if posted.travels_by_hash and self.awaited is not None:
                self.awaited.add(posted, data, peer_id)
                self._refusals.pop(posted.signed.submission.submission_id, None)
            else:
                self._store.put_body(posted.signed.submission.body_hash, posted.body)
                self._take(posted.signed)
        return CheckAnswer.ACCEPT if fresh else CheckAnswer.USELESS

    def _check_one(
        self, topic: str, posted: PostedSubmission, fresh: dict[bytes, PostedSubmission]
    ) -> None:
        submission = posted.signed.submission
        network_id = self._store.genesis.network_id
        if submission.network_id != network_id:
            raise RefusedError("wrong_network")
        if topic != submission_topic(network_id, submission.challenge_id):
            raise RefusedError("wrong_topic")
        submission_id = submission.submission_id
        known = self.is_waiting(submission_id) or self.is_fetching(submission_id)
        if known or submission_id in fresh:
            raise RefusedError("duplicate")
        reason = why_inadmissible(self._store.tree.view(), submission)
        if reason is not None:
            raise RefusedError(reason)
        if submission.body_size > MAX_BODY_BYTES:
            raise RefusedError("too_large")
        self._check_room(posted, fresh)
        self._check_share(submission.hotkey, fresh)
        cost = self._cost(posted)
        if self._budget.level(submission.hotkey) < cost:
            raise RefusedError("rate_limited")
        try:
            posted.check_body()
            self._checker.check_submission(posted.signed)
        except ProofError as error:
            raise RefusedError("body_mismatch") from error
        except ProtocolError as error:
            raise RefusedError(error.reason) from error
        self._budget.spend(submission.hotkey, cost)

    def _cost(self, posted: PostedSubmission) -> float:
        """Return what a submission takes from its hotkey's rate (rule 3), never more than all."""
        if not posted.travels_by_hash:
            return 1.0
        cost = 1.0 + posted.signed.submission.body_size / MAX_CHUNK_BYTES
        return min(cost, self._rate * BURST_S)

    def _check_room(self, posted: PostedSubmission, fresh: dict[bytes, PostedSubmission]) -> None:
        fetching = 0 if self.awaited is None else len(self.awaited)
        if len(self._waiting) + fetching + len(fresh) >= self._max_pending:
            raise RefusedError("busy")
        if not posted.travels_by_hash:
            return
        if self.awaited is None:
            raise RefusedError("body_unavailable")
        absent = [other for other in (*fresh.values(), posted) if other.travels_by_hash]
        if not self.awaited.has_room_for([other.signed.submission for other in absent]):
            raise RefusedError("busy")

    def _check_share(self, hotkey: bytes, fresh: dict[bytes, PostedSubmission]) -> None:
        """Keep a hotkey to its part of the queue (rule 6)."""
        waiting = self._waiting.of_hotkey(hotkey)
        waiting += sum(other.signed.submission.hotkey == hotkey for other in fresh.values())
        if waiting >= WAITING_A_PENDING * self._pending_limit:
            raise RefusedError("too_many_pending")

    def _refuse(self, submission: Submission, reason: str) -> None:
        self.refused[reason] += 1
        if reason == "duplicate":
            return
        self._refusals[submission.submission_id] = reason
        if len(self._refusals) > REMEMBERED_REFUSALS:
            self._refusals.popitem(last=False)

    def _has_body(self, submission: Submission) -> bool:
        try:
            body = self._store.body(submission.body_hash)
        except BlobDamagedError:
            return False  # what is fetched replaces it
        return body is not None and len(body) == submission.body_size

    def _on_body(self, posted: PostedSubmission) -> None:
        """Let a submission go on whose body has come."""
        reason = why_inadmissible(self._store.tree.view(), posted.signed.submission)
        if reason is None:
            self._take(posted.signed)
        elif reason != "duplicate":
            self._refuse(posted.signed.submission, reason)

    def _take(self, signed: SignedSubmission) -> None:
        """Queue a submission whose body is in the store."""
        submission_id = signed.submission.submission_id
        size = len(self._store.voters)
        turn = size if self._me is None else (self._me - submission_id[0]) % size
        due = self._now() + (turn or size) * TURN_S  # turn 0 speaks below, and again a round later
        ahead = self._waiting.of_hotkey(signed.submission.hotkey)
        self._waiting.add(signed, due)
        self._refusals.pop(submission_id, None)
        self.accepted += 1
        if turn == 0:
            self._ask_for(signed, ahead)

    def _ask_for(self, signed: SignedSubmission, ahead: int) -> None:
        """Ask for an admission, or hold it back while the state has no room for it (rule 5).

        `ahead` is how many older ones of the hotkey wait here: they come first.
        """
        hotkey = signed.submission.hotkey
        if ahead and ahead >= room(self._store.tree.view(), hotkey, self._pending_limit):
            self.held_back += 1
        else:
            self._speaker.add(signed)

    def on_admitted(self, submission_id: bytes) -> None:
        """Forget a submission that the state has admitted or ended."""
        self._waiting.remove(submission_id)
        if self.awaited is not None:
            self.awaited.withdraw(submission_id)
        self._speaker.drop("admit", submission_id)

    async def run(self) -> None:
        """Admit what waits, and fetch the bodies that are awaited, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_turns)
            if self.awaited is not None:
                nursery.start_soon(self.awaited.run)

    async def _take_turns(self) -> None:
        """Admit what the validators before us have left waiting (rule 4)."""
        while True:
            await trio.sleep(TICK_S)
            now = self._now()
            view = self._store.tree.view()
            for entry in self._waiting.due(now):
                submission = entry.signed.submission
                reason = why_inadmissible(view, submission)
                if reason is None and not self._store.has_body(submission.body_hash):
                    reason = "body_unavailable"  # it waited longer than this node keeps bodies
                if reason is not None:
                    self.on_admitted(entry.submission_id)
                    if reason != "duplicate":  # the state has it
                        self._refuse(submission, reason)
                    continue
                self._waiting.postpone(entry.submission_id, now + len(self._store.voters) * TURN_S)
                self._ask_for(entry.signed, entry.ahead)
