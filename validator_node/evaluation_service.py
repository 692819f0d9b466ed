"""Evaluation: runs admitted submissions in worker processes and states the verdicts.

Rules:
1. The input is what admission fixed: version, parameters, body and context. Nothing local enters
   it.
2. A Fault (deadline, lost worker, missing module) is not a verdict: the evaluation is tried again,
   ever more rarely (`RETRY_AFTER_S` to `RETRY_AT_MOST_S`), until the network has ended the
   submission. What is likely to end the same way again and costs a worker's time (`COSTLY`) is
   tried `RETRIES` times: then this validator abstains and counts it.
3. A missing body is awaited (`blobs.awaited`) until it is here or the network has ended the
   submission: no local bound gives up before the agreed one. Whoever holds bodies back delays his
   own evaluations only.
4. After a restart everything unsettled that this validator has not stated is evaluated again.
5. As far as `CONSUMERS` allows, what is owed stands in the pool's queue, where the pool decides who
   is served next: a challenge's share of working time is its share of the emission. Beyond that,
   hotkeys take turns. What waits to be tried again takes no place.
6. Each evaluation has an entry in the audit log, one that ended in a Fault too. The log reaches
   the disk within `FLUSH_EVERY_S`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

import structlog
import trio

from protocol.codec import ZERO_DIGEST
from protocol.records.challenge import Challenge, EvaluationContext
from protocol.records.challenge_storage import StorageEntry
from protocol.records.statement import VerdictItem
from protocol.records.submission import Submission
from protocol.view import View
from registry.access import challenge as find_challenge
from registry.challenge_storage import snapshot
from registry.pending import unsettled
from registry.submissions import Admitted
from runtime.errors import Fault, FaultReason
from runtime.fair_queue import Claim
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.pool import WorkerPool
from storage.audit_log import AuditLog, Evaluated
from storage.errors import BlobDamagedError
from validator_node.errors import BodyMissingError
from validator_node.founding import now_ms
from validator_node.hotkey_turns import HotkeyTurns
from validator_node.speaker import Speaker
from validator_node.store import Store

RETRIES = 3
RETRY_AFTER_S = 1.0
RETRY_AT_MOST_S = 60.0
COSTLY = frozenset(
    {
        FaultReason.DEADLINE,
        FaultReason.BAD_JOB,
        FaultReason.COMPILE,
        FaultReason.COMPILE_TIMEOUT,
        FaultReason.COMPILE_LIMIT,
        FaultReason.COMPILE_CRASH,
    }
)
CONSUMERS = 256
"""Evaluations in the pool: well below its `queue_limit`, and twice what one hotkey may have pending
by default, so that the pool has somebody else's to choose."""
FLUSH_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class AwaitsBodies(Protocol):
    """Brings the bodies that are lacking (`blobs.AwaitedBodies`)."""

    def owe(self, submission: Submission, on_here: Callable[[], None]) -> None:
        """Call `on_here` once the body is in the store."""

    def forget(self, submission_id: bytes) -> None:
        """Bring it no longer."""


class EvaluationService:
    """The queue of evaluations this validator owes."""

    def __init__(
        self,
        store: Store,
        pool: WorkerPool,
        speaker: Speaker,
        bodies: AwaitsBodies,
        audit: AuditLog,
        *,
        deadline_ms: int,
    ) -> None:
        self._store = store
        self._pool = pool
        self._speaker = speaker
        self._bodies = bodies
        self._audit = audit
        self._deadline_ms = deadline_ms
        self._queue: HotkeyTurns[Admitted] = HotkeyTurns()
        self._ready = trio.Event()
        self._lacking: dict[bytes, Admitted] = {}
        """What waits for its body."""
        self._tries: Counter[bytes] = Counter()
        """How often an evaluation that is owed has failed."""
        self._later: list[tuple[float, bytes, Admitted]] = []
        """A heap of what is tried again, and when."""
        self._postponed = trio.Event()
        self._jobs = 0
        self.classes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._queue) + len(self._lacking) + len(self._later)

    def add(self, admitted: Admitted) -> None:
        """Queue an admitted submission.

        None may be dropped: this validator owes its verdict. How many wait is bounded by the
        state, for each registered hotkey (`registry.pending`).
        """
        if self._store.has_body(admitted.submission.body_hash):
            self._enqueue(admitted)
        else:
            self._await_body(admitted)

    def on_ended(self, submission_id: bytes) -> None:
        """Owe a verdict no longer: the network has ended the submission."""
        if self._lacking.pop(submission_id, None) is not None:
            self._bodies.forget(submission_id)
            self.faults[BodyMissingError.reason] += 1
            self.faults["abstained"] += 1

    def _enqueue(self, admitted: Admitted) -> None:
        self._queue.add(admitted.submission.hotkey, admitted)
        self._ready.set()

    def _await_body(self, admitted: Admitted) -> None:
        self._lacking[admitted.submission_id] = admitted

        def on_here() -> None:
            if self._lacking.pop(admitted.submission_id, None) is not None:
                self._enqueue(admitted)

        self._bodies.owe(admitted.submission, on_here)

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
            nursery.start_soon(self._try_again)
            for _ in range(CONSUMERS):
                nursery.start_soon(self._consume)

    async def _flush(self) -> None:
        while True:
            await trio.sleep(FLUSH_EVERY_S)
            await trio.to_thread.run_sync(self._audit.flush)

    async def _consume(self) -> None:
        while True:
            while not self._queue:
                self._ready = trio.Event()
                await self._ready.wait()
            admitted = self._queue.take()
            if self._store.result(admitted.submission_id) is None:
                await self._evaluate(admitted)
            else:
                self._give_up(admitted)

    async def _evaluate(self, admitted: Admitted) -> None:
        body = self._held_body(admitted.submission)
        if body is None:  # dropped or damaged meanwhile: it is fetched anew
            self._fault(admitted, BodyMissingError(admitted.submission.body_hash))
            return
        try:
            outcome = await self._run_job(admitted, body)
        except Fault as fault:
            self._fault(admitted, fault)
            return
        self._tries.pop(admitted.submission_id, None)
        self.classes[outcome.outcome_class] += 1
        self._state(admitted, outcome)

    def _fault(self, admitted: Admitted, fault: Fault | BodyMissingError) -> None:
        """Count a fault, and try again later (rule 2)."""
        submission_id = admitted.submission_id
        self._tries[submission_id] += 1
        tries = self._tries[submission_id]
        self.faults[str(fault.reason)] += 1
        log.warning(
            "evaluation fault",
            submission=submission_id.hex()[:16],
            reason=str(fault),
            attempt=tries,
        )
        if fault.reason in COSTLY and tries >= RETRIES:
            self._give_up(admitted)
            return
        wait_s = min(RETRY_AT_MOST_S, RETRY_AFTER_S * 2.0 ** min(tries - 1, 16))
        heappush(self._later, (trio.current_time() + wait_s, submission_id, admitted))
        self._postponed.set()

    def _give_up(self, admitted: Admitted) -> None:
        """Owe a verdict no longer; one that failed before was never stated."""
        if self._tries.pop(admitted.submission_id, 0):
            self.faults["abstained"] += 1

    async def _try_again(self) -> None:
        """Queue what was postponed, when it is time."""
        while True:
            self._postponed = trio.Event()
            now = trio.current_time()
            while self._later and self._later[0][0] <= now:
                _, submission_id, admitted = heappop(self._later)
                if self._store.result(submission_id) is not None:
                    self._give_up(admitted)
                elif self._held_body(admitted.submission) is None:
                    self._await_body(admitted)
                else:
                    self._enqueue(admitted)
            wait_s = self._later[0][0] - now if self._later else float("inf")
            with trio.move_on_after(wait_s):
                await self._postponed.wait()

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
