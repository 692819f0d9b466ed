"""Worker processes behind one async call: `await pool.evaluate(job)`.

Rules:
1. Each worker has a task of its own that alone reads its pipe. Callers hand over a ticket and wait;
   cancelling a caller abandons the ticket and never a half-written frame.
2. A worker that dies, hangs or talks nonsense is killed and replaced; the job in hand gets a
   `Fault` and no other job notices. Nothing is retried here: that is the scheduler's decision.
3. Waiting is bounded everywhere: `queue_limit` jobs, and the limits of `runtime.slot`.
4. Who is served next is `runtime.fair_queue`'s decision. Hand it all there is to do: what waits
   before the pool, in line, is served in line.
5. With a compiler, a job's module is compiled before the job takes a place in the queue, so that
   no worker waits for a compilation. Without one the workers compile: for tests and tools.
6. All workers of a pool run one engine. wasmtime exchanged on disk under a running node shows as a
   fault (engine_mismatch), never as another verdict.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from runtime import wire
from runtime.compiler import Compiler, ModuleSource
from runtime.errors import Fault, FaultReason
from runtime.fair_queue import Claim, FairQueue
from runtime.job import EvaluationJob
from runtime.outcome import Outcome, OutcomeClass
from runtime.slot import MAX_IN_HAND, Answered, Slot, Ticket
from runtime.worker_process import WorkerLost

BACKOFF_S = (0.1, 0.5, 2.0, 5.0)
"""Pauses after 1, 2, 3, 4 or more failed starts in a row."""


@dataclass(frozen=True)
class PoolStats:
    """The pool at one moment. Counters run since it was opened."""

    workers: int
    alive: int
    """Workers ready or busy."""
    busy: int
    """Workers with a job in hand."""
    queued: int
    """Jobs waiting for a worker."""
    preparing: int
    """Jobs waiting for their module to be compiled."""
    replaced: int
    """Workers killed or found dead."""
    busy_s: float
    """Working time of all workers together, by their own clocks."""
    evaluated: Mapping[OutcomeClass, int]
    faults: Mapping[FaultReason, int]
    waiting: Mapping[str, int]
    """Jobs queued, by challenge."""
    running: Mapping[str, int]
    """Workers that have jobs of a challenge in hand, by challenge."""
    compiled: int
    artifact_events: Mapping[str, int]
    """What the artifact cache did (`runtime.artifact_cache`); empty without a compiler."""


class WorkerPool:
    """Made by `open_pool`. The gauges are plain ints, read at any time; `stats` has them all."""

    def __init__(
        self,
        workers: int,
        module_source: ModuleSource,
        queue_limit: int,
        expected_engine_id: bytes | None,
        compiler: Compiler | None = None,
        challenge_cap: int | None = None,
    ) -> None:
        self._workers = workers
        self._module_source = module_source
        self._queue_limit = queue_limit
        self._compiler = compiler
        self._queue: FairQueue[Ticket] = FairQueue(challenge_cap or workers)
        self._slots: list[Slot] = []
        self._idle: list[Slot] = []
        self._tickets: set[Ticket] = set()
        self._preparing: set[trio.CancelScope] = set()
        self._closed = False
        self.engine_id = expected_engine_id
        """The workers' engine, None until the first one is ready."""
        self.alive = self.replaced = 0
        self.busy_s = 0.0
        self.evaluated: dict[OutcomeClass, int] = dict.fromkeys(OutcomeClass, 0)
        self.faults: dict[FaultReason, int] = dict.fromkeys(FaultReason, 0)

    @property
    def busy(self) -> int:
        """Workers with a job in hand."""
        return sum(len(slot.hand) > 0 for slot in self._slots)

    @property
    def queued(self) -> int:
        """Jobs waiting for a worker."""
        return len(self._queue)

    def stats(self) -> PoolStats:
        """Return all gauges and counters."""
        compiler = self._compiler
        return PoolStats(
            workers=self._workers,
            alive=self.alive,
            busy=self.busy,
            queued=self.queued,
            preparing=len(self._preparing),
            replaced=self.replaced,
            busy_s=self.busy_s,
            evaluated=dict(self.evaluated),
            faults=dict(self.faults),
            waiting=self._queue.waiting,
            running=self._queue.running,
            compiled=0 if compiler is None else compiler.compiled,
            artifact_events={} if compiler is None else dict(compiler.cache.events),
        )

    async def evaluate(self, job: EvaluationJob, claim: Claim | None = None) -> Outcome:
        """Return the job's outcome. Raises `Fault`, at once (overloaded) when the queue is full.

        `claim` says on whose account it runs; without it, the job's challenge's and miner's.
        """
        if self._closed:
            raise self._count(Fault(FaultReason.CLOSED, "the pool is closed"))
        if len(self._queue) + len(self._preparing) >= self._queue_limit:
            raise self._count(Fault(FaultReason.OVERLOADED, f"{self._queue_limit} jobs wait"))
        if self._compiler is not None and not self._compiler.is_ready(job.module_hash):
            await self._prepare(self._compiler, job.module_hash)
        claim = claim or Claim(challenge=job.challenge_id, miner=job.miner)
        ticket = Ticket(job, claim)
        self._tickets.add(ticket)
        self._queue.push(ticket, claim)
        self._dispatch()
        try:
            await ticket.done.wait()
        finally:
            ticket.abandoned = True
            self._tickets.discard(ticket)
        if ticket.fault is not None:
            raise ticket.fault
        assert ticket.outcome is not None
        return ticket.outcome

    async def _prepare(self, compiler: Compiler, module_hash: bytes) -> None:
        with trio.CancelScope() as scope:
            self._preparing.add(scope)
            try:
                await compiler.prepare(module_hash)
            except Fault as fault:
                self._count(fault)
                raise
            finally:
                self._preparing.discard(scope)
        if self._closed:
            raise self._count(Fault(FaultReason.CLOSED, "the pool was closed"))

    def _count(self, fault: Fault) -> Fault:
        self.faults[fault.reason] += 1
        return fault

    def _settle(self, ticket: Ticket, result: Outcome | Fault) -> None:
        if ticket.done.is_set():
            return  # closed meanwhile
        if isinstance(result, Outcome):
            self.evaluated[result.outcome_class] += 1
            ticket.outcome = result
        else:
            ticket.fault = self._count(Fault(result.reason, result.detail))
        ticket.done.set()

    def close(self) -> None:
        """Refuse new jobs and end those not done with a `Fault` (closed)."""
        self._closed = True
        for scope in self._preparing:
            scope.cancel()
        for ticket in self._tickets:
            self._settle(ticket, Fault(FaultReason.CLOSED, "the pool was closed"))

    def _take(self, slot: Slot) -> Ticket | None:
        """Return the next job that somebody still waits for; its place in the queue is taken."""
        while (taken := self._queue.pop(slot)) is not None:
            ticket, challenge = taken
            if ticket.wanted:
                ticket.expected_ms = self._queue.peak_ms(challenge)
                return ticket
            self._queue.finish(challenge, slot)
        return None

    def _fill(self, slot: Slot) -> None:
        """Give a slot what it has room for."""
        while slot.has_room and (ticket := self._take(slot)) is not None:
            slot.take(ticket)

    def _dispatch(self) -> None:
        """Bring waiting jobs to idle workers, and line them up only when there is none."""
        while self._idle and (ticket := self._take(self._idle[-1])) is not None:
            self._idle.pop().take(ticket)
        for slot in self._slots:
            if slot.hand and self._queue:
                self._fill(slot)

    async def run_slot(self) -> None:
        """Keep one worker alive and feed it; runs until cancelled."""
        slot = Slot(self._answer)
        self._slots.append(slot)
        while True:
            try:
                await self._start(slot)
                slot.failures = 0
                self.alive += 1
                try:
                    await self._serve(slot)
                finally:
                    self.alive -= 1
            except Fault as fault:
                slot.failures += 1
                if all(other.failures > 1 for other in self._slots):
                    self._fail_queue(fault)
            except WorkerLost as lost:
                self._give_up(slot, Fault(lost.reason, str(lost)))
            finally:
                await slot.end()
            self.replaced += 1
            self._dispatch()  # others may have what was put back
            if slot.failures:
                await trio.sleep(BACKOFF_S[min(slot.failures, len(BACKOFF_S)) - 1])

    def _give_up(self, slot: Slot, fault: Fault) -> None:
        """End the job that a lost worker had begun; queue the others again in the same order."""
        if slot.begun:
            took_ms = (trio.current_time() - slot.hand[0].started) * 1_000
            self._release(slot, Answered(fault, took_ms))
        for ticket in reversed([slot.put_down() for _ in range(len(slot.hand))]):
            self._queue.put_back(ticket, ticket.claim, slot)

    def _fail_queue(self, fault: Fault) -> None:
        """No worker starts any more: tell those who wait instead of letting them hang."""
        for ticket in self._queue.drain():
            self._settle(ticket, fault)

    async def _start(self, slot: Slot) -> None:
        """Start a process and check its engine. Raises `Fault`."""
        engine_id = await slot.start()
        if self.engine_id is None:
            self.engine_id = engine_id
        if engine_id != self.engine_id:
            raise Fault(
                FaultReason.ENGINE_MISMATCH,
                f"worker {engine_id.hex()}, expected {self.engine_id.hex()}",
            )

    async def _serve(self, slot: Slot) -> None:
        """Work off jobs until the worker is lost. Raises `WorkerLost`."""
        for turn in itertools.count(1):
            if turn % MAX_IN_HAND == 0:  # answers may be in the pipe already: let others run, too
                await trio.lowlevel.checkpoint()
            self._fill(slot)
            if not slot.hand:
                self._idle.append(slot)
                try:
                    await slot.doze()
                finally:
                    if slot in self._idle:
                        self._idle.remove(slot)
            self._release(slot, await slot.work())

    def _release(self, slot: Slot, answered: Answered) -> None:
        """Take the first job out of a slot's hand and tell its caller."""
        ticket = slot.put_down()
        result, took_ms = answered
        self.busy_s += took_ms / 1_000
        told = isinstance(result, Outcome) or result.reason is FaultReason.DEADLINE
        self._queue.finish(ticket.claim.challenge, slot, took_ms if told else None)
        self._settle(ticket, result)

    async def _answer(self, question: wire.Need | wire.NeedBlob) -> bytes:
        """Return the frame that gives a worker its module or blob. Raises `Fault`."""
        if isinstance(question, wire.Need) and self._compiler is not None:
            artifact = await self._compiler.artifact(question.module_hash)
            return wire.frame(wire.Load(artifact=artifact))
        try:
            if isinstance(question, wire.Need):
                return wire.frame(wire.Module(body=self._module_source(question.module_hash)))
            return wire.frame(wire.Blob(body=self._module_source(question.digest)))
        except Exception as error:
            raise Fault(FaultReason.INTERNAL, f"module source: {error!r}") from error


@asynccontextmanager
async def open_pool(
    workers: int,
    *,
    module_source: ModuleSource,
    queue_limit: int = 1024,
    expected_engine_id: bytes | None = None,
    compiler: Compiler | None = None,
    challenge_cap: int | None = None,
) -> AsyncIterator[WorkerPool]:
    """Run `workers` processes while the block lasts; leaving it kills them.

    `expected_engine_id` is the network's pinned engine; without it the first worker's counts.
    `challenge_cap` bounds the jobs of one challenge that run at a time; None for as many as there
    are workers. An exception of the block leaves as it is, not wrapped in a group.
    """
    if workers < 1 or queue_limit < 1:
        raise ValueError(f"workers {workers} and queue_limit {queue_limit} must be 1 or more")
    pool = WorkerPool(
        workers, module_source, queue_limit, expected_engine_id, compiler, challenge_cap
    )
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(pool.run_slot)
        try:
            yield pool
        except Exception as error:
            failure = error
        finally:
            pool.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
