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
4. What passed waits in a bounded queue until the state has admitted it (`admissions`).
5. What could not be settled in time is refused as `busy` before anything is verified (`backlog`).
6. So that one hotkey does not fill the queue, at most `WAITING_A_PENDING` times as many of its
   submissions wait as may be pending; more are refused as `too_many_pending`.
7. Why a submission was refused is remembered (bounded) so that its miner can be told, and with it
   when to come again, if that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

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
from registry.submissions import why_inadmissible
from storage.errors import BlobDamagedError
from validator_node.admissions import Admissions
from validator_node.backlog import CREDIT, Backlog
from validator_node.batch_check import Checker
from validator_node.blobs.awaited import AwaitedBodies, BodyCallbacks
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.network.gossip import CheckAnswer
from validator_node.rate import BURST_S, Budget
from validator_node.refusal_memory import Refusals, RefusedError
from validator_node.refusals import answer_of
from validator_node.speaker import Speaker
from validator_node.store import Store

MAX_MESSAGE_BYTES = 262_144
AGAIN_S = 5.0
"""When to come again with what found no room for another reason than the backlog."""
LATE_PAUSE_S = 0.25
"""A node whose gossip waits so long after each message gives only `LATE_CREDIT`."""
LATE_CREDIT = CREDIT // 4
WAITING_A_PENDING = 2
"""Rule 6. What a hotkey may send at once at the default rate fits in: 200 of 256."""


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
        is_asked_for: Callable[[bytes], bool] = lambda _: False,
        pending: Callable[[], int] = int,
        pause_s: Callable[[], float] = float,
    ) -> None:
        """Make an intake that takes `max_pending` submissions.

        Without a `fetcher` it takes only what travels inline. `validators` returns the peer ids
        that may hold a body; `is_asked_for` whether a statement that could be ordered asks for an
        admission; `pending` how many submissions are admitted and have not ended; `pause_s` how
        long gossip waits after a message because this node is late.
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
        self._pause_s = pause_s
        self.refusals = Refusals(now)
        self.refused = self.refusals.counts
        self.admissions = Admissions(
            store, speaker, me=me, now=now, is_asked_for=is_asked_for, refuse=self._refuse
        )
        self._waiting = self.admissions.waiting
        self.backlog = Backlog(now, lambda: self._count_held() + pending())
        self.awaited = None if fetcher is None else self._await_bodies(fetcher, validators)
        self._last_read: tuple[bytes, SubmissionMessage] | None = None
        self.accepted = 0

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

    def __len__(self) -> int:
        return len(self._waiting)

    def _count_held(self) -> int:
        return len(self._waiting) + (0 if self.awaited is None else len(self.awaited))

    def retry_after_s(self, more: int = 1) -> int:
        """Return 0 if `more` submissions would be taken now, else the seconds until they may be."""
        is_late = self._pause_s() > LATE_PAUSE_S
        return self.backlog.retry_after_s(more, LATE_CREDIT if is_late else CREDIT)

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
                self._refuse(submission, refusal.reason, refusal.retry_after_s)
                if refusal.reason != "duplicate":
                    return answer_of(refusal.reason)
                if self.awaited is not None:
                    self.awaited.note_peer(submission.submission_id, peer_id)
            else:
                fresh[submission.submission_id] = posted
        for posted in fresh.values():
            if posted.travels_by_hash and self.awaited is not None:
                self.awaited.add(posted, data, peer_id)
                self.refusals.forget(posted.signed.submission.submission_id)
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
            wait_s = (cost - self._budget.level(submission.hotkey)) / self._rate
            raise RefusedError("rate_limited", wait_s)
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
        if self._count_held() + len(fresh) >= self._max_pending:
            raise RefusedError("busy", AGAIN_S)
        wait_s = self.retry_after_s(len(fresh) + 1)
        if wait_s:
            raise RefusedError("busy", wait_s)
        if not posted.travels_by_hash:
            return
        if self.awaited is None:
            raise RefusedError("body_unavailable")
        absent = [other for other in (*fresh.values(), posted) if other.travels_by_hash]
        if not self.awaited.has_room_for([other.signed.submission for other in absent]):
            raise RefusedError("busy", AGAIN_S)

    def _check_share(self, hotkey: bytes, fresh: dict[bytes, PostedSubmission]) -> None:
        """Keep a hotkey to its part of the queue (rule 6)."""
        waiting = self._waiting.of_hotkey(hotkey)
        waiting += sum(other.signed.submission.hotkey == hotkey for other in fresh.values())
        if waiting >= WAITING_A_PENDING * self._pending_limit:
            raise RefusedError("too_many_pending", AGAIN_S)

    def _refuse(self, submission: Submission, reason: str, retry_after_s: float = 0.0) -> None:
        self.refusals.note(submission.submission_id, reason, retry_after_s)

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
        """Let a submission wait for its admission, now that its body is in the store."""
        self.refusals.forget(signed.submission_id)
        self.accepted += 1
        self.admissions.add(signed)

    def on_executed(self, admitted: Iterable[bytes], ended: Collection[bytes]) -> None:
        """Forget the submissions that the state has admitted or ended in a slot."""
        for submission_id in (*admitted, *ended):
            self.admissions.end(submission_id, admitted=True)
            if self.awaited is not None:
                self.awaited.withdraw(submission_id)
        self.backlog.note_ended(len(ended))

    async def run(self) -> None:
        """Ask for what waits, and fetch the bodies that are awaited, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.admissions.run)
            if self.awaited is not None:
                nursery.start_soon(self.awaited.run)
