"""Evaluation: runs admitted submissions in worker processes and states the verdicts.

Rules:
1. The input is what admission fixed: version, parameters, body and context. Nothing local enters
   it.
2. A Fault (deadline, lost worker, missing body) is not a verdict: the evaluation is tried again
   `RETRIES` times, then this validator abstains and counts it.
3. A missing body is fetched by hash from the other validators, by `FETCHERS` tasks of their own
   and for each hotkey one at a time: whoever holds bodies back delays his own evaluations only.
4. After a restart everything unsettled that this validator has not stated is evaluated again.
5. All that is owed stands in the pool's queue, as far as `CONSUMERS` allows: who is served next is
   the pool's decision. A challenge's share of working time is its share of the emission.
6. Each evaluation has an entry in the audit log, one that ended in a Fault too. The log reaches
   the disk within `FLUSH_EVERY_S`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable

import structlog
import trio

from protocol.codec import ZERO_DIGEST, sha256
from protocol.records.challenge import Challenge, EvaluationContext
from protocol.records.challenge_storage import StorageEntry
from protocol.records.statement import VerdictItem
from protocol.records.submission import Submission
from protocol.view import View
from registry.access import challenge as find_challenge
from registry.challenge_storage import snapshot
from registry.pending import unsettled
from registry.submissions import Admitted
from runtime.errors import Fault
from runtime.fair_queue import Claim
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.pool import WorkerPool
from storage.audit_log import AuditLog, Evaluated
from storage.errors import BlobDamagedError
from validator_node.errors import BodyMissingError
from validator_node.founding import now_ms
from validator_node.speaker import Speaker
from validator_node.store import Store

RETRIES = 3
RETRY_AFTER_S = 1.0
CONSUMERS = 256
"""Evaluations in the pool or waiting for their body: well below the pool's `queue_limit`, and twice
what one hotkey may have pending by default, so that the pool has somebody else's to choose."""
FETCHERS = 8
FLUSH_EVERY_S = 1.0

log = structlog.get_logger(__name__)

FetchBody = Callable[[Submission], Awaitable[bytes | None]]


class EvaluationService:
    """The queue of evaluations this validator owes."""

    def __init__(
        self,
        store: Store,
        pool: WorkerPool,
        speaker: Speaker,
        fetch_body: FetchBody,
        audit: AuditLog,
        *,
        deadline_ms: int,
    ) -> None:
        self._store = store
        self._pool = pool
        self._speaker = speaker
        self._fetch_body = fetch_body
        self._audit = audit
        self._deadline_ms = deadline_ms
        self._queue: deque[Admitted] = deque()
        self._ready = trio.Event()
        self._bodiless: OrderedDict[bytes, deque[Admitted]] = OrderedDict()
        """What waits for its body, by hotkey."""
        self._fetching: set[bytes] = set()
        """Hotkeys of which a body is being fetched."""
        self._lacking = trio.Event()
        self._refetched: set[bytes] = set()
        """Submissions whose body was here and could not be read; no second fetch for them."""
        self._jobs = 0
        self.classes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._queue) + sum(map(len, self._bodiless.values()))

    def add(self, admitted: Admitted) -> None:
        """Queue an admitted submission.

        None may be dropped: this validator owes its verdict. How many wait is bounded by the
        state, for each registered hotkey (`registry.pending`).
        """
        if self._store.has_body(admitted.submission.body_hash):
            self._queue.append(admitted)
            self._ready.set()
        else:
            self._await_body(admitted)

    def _await_body(self, admitted: Admitted) -> None:
        self._bodiless.setdefault(admitted.submission.hotkey, deque()).append(admitted)
        self._lacking.set()

    def resume(self, hotkey: bytes) -> int:
        """Queue what is unsettled and unstated by validator `hotkey`; return how much that is."""
        view = self._store.tree.view()
        for submission_id, pending in unsettled(view):
            if any(stated.hotkey == hotkey for stated in pending.stated):
                continue
            challenge = find_challenge(view, pending.submission.challenge_id)
            if challenge is not None and challenge.version == pending.challenge_version:
                self.add(Admitted(submission_id, pending.submission, challenge, pending.context))
        return len(self)

    async def run(self) -> None:
        """Evaluate for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush)
            for _ in range(FETCHERS):
                nursery.start_soon(self._fetch)
            for _ in range(CONSUMERS):
                nursery.start_soon(self._consume)

    async def _flush(self) -> None:
        while True:
            await trio.sleep(FLUSH_EVERY_S)
            await trio.to_thread.run_sync(self._audit.flush)

    async def _fetch(self) -> None:
        while True:
            hotkey = next((key for key in self._bodiless if key not in self._fetching), None)
            if hotkey is None:
                self._lacking = trio.Event()
                await self._lacking.wait()
                continue
            self._fetching.add(hotkey)
            try:
                await self._fetch_for(hotkey)
            finally:
                self._fetching.discard(hotkey)
                self._lacking.set()

    async def _fetch_for(self, hotkey: bytes) -> None:
        """Bring the body of a hotkey's oldest submission that lacks one."""
        waiting = self._bodiless[hotkey]
        admitted = waiting.popleft()
        if waiting:
            self._bodiless.move_to_end(hotkey)
        else:
            del self._bodiless[hotkey]
        for attempt in range(RETRIES):
            if self._store.result(admitted.submission_id) is not None:
                return
            body = await self._fetch_body(admitted.submission)
            if body is not None and sha256(body) == admitted.submission.body_hash:
                self._queue.append(admitted)
                self._ready.set()
                return
            self._fault(admitted, BodyMissingError(admitted.submission.body_hash), attempt)
            await trio.sleep(RETRY_AFTER_S * (attempt + 1))
        self.faults["abstained"] += 1

    async def _consume(self) -> None:
        while True:
            while not self._queue:
                self._ready = trio.Event()
                await self._ready.wait()
            admitted = self._queue.popleft()
            if self._store.result(admitted.submission_id) is None:
                await self._evaluate(admitted)

    async def _evaluate(self, admitted: Admitted) -> None:
        for attempt in range(RETRIES):
            body = self._held_body(admitted.submission)
            if body is None:  # dropped or damaged meanwhile: it is fetched once more
                if admitted.submission_id in self._refetched:
                    self._fault(admitted, BodyMissingError(admitted.submission.body_hash), attempt)
                    break
                self._refetched.add(admitted.submission_id)
                self._await_body(admitted)
                return
            try:
                outcome = await self._run_job(admitted, body)
            except Fault as fault:
                self._fault(admitted, fault, attempt)
                await trio.sleep(RETRY_AFTER_S * (attempt + 1))
                continue
            self.classes[outcome.outcome_class] += 1
            self._state(admitted, outcome)
            self._refetched.discard(admitted.submission_id)
            return
        self._refetched.discard(admitted.submission_id)
        self.faults["abstained"] += 1

    def _fault(self, admitted: Admitted, fault: Fault | BodyMissingError, attempt: int) -> None:
        self.faults[str(fault.reason)] += 1
        log.warning(
            "evaluation fault",
            submission=admitted.submission_id.hex()[:16],
            reason=str(fault),
            attempt=attempt + 1,
        )

    async def _run_job(self, admitted: Admitted, body: bytes) -> Outcome:
        """Return the outcome, and leave an entry in the audit log. Raises `Fault`."""
        job = self._job(admitted, body)
        claim = Claim(
            challenge=job.challenge_id, miner=job.miner, weight=max(1, admitted.challenge.emission)
        )
        try:
            outcome = await self._pool.evaluate(job, claim)
        except Fault as fault:
            self._audit.append(audit_event(admitted.submission_id, job, fault))
            raise
        self._audit.append(audit_event(admitted.submission_id, job, outcome))
        return outcome

    def _state(self, admitted: Admitted, outcome: Outcome) -> None:
        verdict = VerdictItem(
            submission_id=admitted.submission_id,
            verdict_hash=outcome.verdict_hash,
            outcome_class=outcome.outcome_class.value,
            score=outcome.score,
            writes=outcome.writes,
        )
        if not self._speaker.add(verdict):
            self.faults["unsaid"] += 1

    def _held_body(self, submission: Submission) -> bytes | None:
        try:
            return self._store.body(submission.body_hash)
        except BlobDamagedError:
            return None

    def _job(self, admitted: Admitted, body: bytes) -> EvaluationJob:
        self._jobs += 1
        view = self._store.tree.view()
        return evaluation_job(
            self._jobs,
            admitted.challenge,
            admitted.submission,
            admitted.context,
            body,
            stored(view, admitted.challenge, admitted.context),
            self._deadline_ms,
        )


def stored(
    view: View, challenge: Challenge, context: EvaluationContext
) -> tuple[StorageEntry, ...]:
    """Return the storage that a pending submission's evaluation may read."""
    if "storage_get" not in challenge.policy.host_functions:
        return ()
    return snapshot(view, challenge.challenge_id, context.height)


def evaluation_job(
    job_id: int,
    challenge: Challenge,
    submission: Submission,
    context: EvaluationContext,
    body: bytes,
    storage: tuple[StorageEntry, ...],
    deadline_ms: int,
) -> EvaluationJob:
    """Return the job that evaluates a submission under what its admission fixed."""
    return EvaluationJob(
        job_id=job_id,
        module_hash=challenge.module_hash,
        policy=challenge.policy,
        challenge_id=challenge.challenge_id,
        version=challenge.version,
        params=challenge.params,
        miner=submission.hotkey,
        submission=body,
        context=context,
        deadline_ms=deadline_ms,
        storage=storage,
    )


def audit_event(submission_id: bytes, job: EvaluationJob, ended: Outcome | Fault) -> Evaluated:
    """Return what the audit log tells of an evaluation that ended now."""
    outcome = ended if isinstance(ended, Outcome) else None
    return Evaluated(
        time_ms=now_ms(),
        job_id=job.job_id,
        submission_id=submission_id,
        module_hash=job.module_hash,
        policy_hash=job.policy.digest(),
        outcome_class=outcome.outcome_class.value if outcome else "",
        verdict_hash=outcome.verdict_hash if outcome else ZERO_DIGEST,
        fuel_used=outcome.fuel_used if outcome else 0,
        host_calls=outcome.host_calls if outcome else (),
        fault="" if isinstance(ended, Outcome) else ended.reason.value,
    )
