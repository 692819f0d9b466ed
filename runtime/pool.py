"""Worker processes behind one async call: `await pool.evaluate(job)`.

Rules:
1. Each worker has a task of its own that alone touches its pipes. Callers hand over a ticket and
   wait; cancelling a caller abandons the ticket and never a half-written frame.
2. A worker that dies, hangs or talks nonsense is killed and replaced; the job in hand gets a
   `Fault` and no other job notices. Nothing is retried here: that is the scheduler's decision.
3. Waiting is bounded everywhere: `queue_limit` tickets, `START_LIMIT_S` for a process to start,
   `COMPILE_LIMIT_S` for a module, and a job's deadline plus `GRACE_S` for its answer.
4. All workers of a pool run one engine. wasmtime exchanged on disk under a running node shows as a
   fault (engine_mismatch), never as another verdict.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from protocol.errors import ProtocolError
from runtime import wire
from runtime.errors import Fault, FaultReason
from runtime.job import EvaluationJob
from runtime.outcome import Outcome, OutcomeClass
from runtime.worker_process import WorkerLost, WorkerProcess

START_LIMIT_S = 30.0
COMPILE_LIMIT_S = 60.0
GRACE_S = 2.0
"""What the epoch ticks, host functions and the pipes may add to a job's deadline."""
BACKOFF_S = (0.1, 0.5, 2.0, 5.0)
"""Pauses after 1, 2, 3, 4 or more failed starts in a row."""

ModuleSource = Callable[[bytes], bytes | None]
"""Returns a module's bytes by hash, None when the node does not have it; must not block long."""


class _Ticket:
    """One job on its way; exactly one of `outcome` and `fault` is set before `done`."""

    __slots__ = ("abandoned", "done", "fault", "job", "outcome")

    def __init__(self, job: EvaluationJob) -> None:
        self.job = job
        self.done = trio.Event()
        self.outcome: Outcome | None = None
        self.fault: Fault | None = None
        self.abandoned = False


class WorkerPool:
    """Made by `open_pool`. The gauges are plain ints, read at any time."""

    def __init__(
        self, module_source: ModuleSource, queue_limit: int, expected_engine_id: bytes | None
    ) -> None:
        self._module_source = module_source
        self._send, self._receive = trio.open_memory_channel[_Ticket](queue_limit)
        self._tickets: set[_Ticket] = set()
        self._closed = False
        self.engine_id = expected_engine_id
        """The workers' engine, None until the first one is ready."""
        self.alive = 0
        """Workers ready or busy."""
        self.busy = 0
        """Workers with a job in hand."""
        self.queued = 0
        """Jobs waiting for a worker."""
        self.replaced = 0
        """Workers killed or found dead since the start."""
        self.evaluated: dict[OutcomeClass, int] = dict.fromkeys(OutcomeClass, 0)
        self.faults: dict[FaultReason, int] = dict.fromkeys(FaultReason, 0)

    async def evaluate(self, job: EvaluationJob) -> Outcome:
        """Return the job's outcome. Raises `Fault`, at once (overloaded) when the queue is full."""
        ticket = _Ticket(job)
        try:
            if self._closed:
                raise self._count(Fault(FaultReason.CLOSED, "the pool is closed"))
            self._send.send_nowait(ticket)
        except trio.WouldBlock:
            fault = Fault(FaultReason.OVERLOADED, f"{self.queued} jobs wait")
            raise self._count(fault) from None
        self._tickets.add(ticket)
        self.queued += 1
        try:
            await ticket.done.wait()
        finally:
            ticket.abandoned = True
            self._tickets.discard(ticket)
        if ticket.fault is not None:
            raise ticket.fault
        assert ticket.outcome is not None
        return ticket.outcome

    def _count(self, fault: Fault) -> Fault:
        self.faults[fault.reason] += 1
        return fault

    def _settle(self, ticket: _Ticket, result: Outcome | Fault) -> None:
        if ticket.done.is_set():
            return  # closed meanwhile
        if isinstance(result, Outcome):
            self.evaluated[result.outcome_class] += 1
            ticket.outcome = result
        else:
            ticket.fault = self._count(result)
        ticket.done.set()

    def close(self) -> None:
        """Refuse new jobs and end those not done with a `Fault` (closed)."""
        self._closed = True
        for ticket in self._tickets:
            self._settle(ticket, Fault(FaultReason.CLOSED, "the pool was closed"))

    async def run_slot(self) -> None:
        """Keep one worker alive and feed it; runs until cancelled."""
        failures = 0
        while True:
            worker = WorkerProcess()
            try:
                await self._start(worker)
                failures = 0
                self.alive += 1
                try:
                    await self._feed(worker)
                finally:
                    self.alive -= 1
            except Fault as fault:
                failures += 1
                if self.alive == 0:
                    self._fail_queue(fault)
            except WorkerLost:
                pass  # its job was told already
            finally:
                await worker.kill()
            self.replaced += 1
            if failures:
                await trio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])

    def _fail_queue(self, fault: Fault) -> None:
        """No worker lives: tell those who wait instead of letting them hang."""
        while True:
            try:
                ticket = self._receive.receive_nowait()
            except trio.WouldBlock:
                return
            self.queued -= 1
            self._settle(ticket, Fault(fault.reason, fault.detail))

    async def _start(self, worker: WorkerProcess) -> None:
        """Start a process and check its engine. Raises `Fault`."""
        try:
            with trio.fail_after(START_LIMIT_S):
                await worker.start()
                ready = await worker.receive()
        except (trio.TooSlowError, OSError, WorkerLost, ProtocolError, ValueError) as error:
            raise Fault(FaultReason.WORKER_LOST, f"a worker did not start: {error!r}") from error
        if not isinstance(ready, wire.Ready):
            raise Fault(FaultReason.WORKER_LOST, f"a worker began with {type(ready).__name__}")
        if self.engine_id is None:
            self.engine_id = ready.engine_id
        if ready.engine_id != self.engine_id:
            raise Fault(
                FaultReason.ENGINE_MISMATCH,
                f"worker {ready.engine_id.hex()}, expected {self.engine_id.hex()}",
            )

    async def _feed(self, worker: WorkerProcess) -> None:
        """Hand jobs over until the worker is lost. Raises `WorkerLost`, or `Fault` at a restart."""
        async for ticket in self._receive:
            self.queued -= 1
            if ticket.abandoned or ticket.done.is_set():
                continue
            self.busy += 1
            try:
                if not worker.alive:  # it died idle: no reason to spoil this job
                    self.replaced += 1
                    await worker.kill()
                    await self._start(worker)
                self._settle(ticket, await self._converse(worker, ticket.job))
            except Fault as fault:
                self._settle(ticket, Fault(fault.reason, fault.detail))
                raise
            except WorkerLost as lost:
                self._settle(ticket, Fault(lost.reason, str(lost)))
                raise
            finally:
                self.busy -= 1

    async def _converse(self, worker: WorkerProcess, job: EvaluationJob) -> Outcome | Fault:
        """Run one job on a worker. Raises `WorkerLost` when the worker is of no more use."""
        try:
            request = wire.frame(wire.Run(job=job))
        except ValueError as error:
            return Fault(FaultReason.BAD_JOB, str(error))
        answer_limit = job.deadline_ms / 1000 + GRACE_S
        reply = await worker.ask(request, answer_limit)
        if isinstance(reply, wire.Need):
            try:
                module = wire.frame(wire.Module(body=self._module_source(reply.module_hash)))
            except Exception as error:
                # the worker waits: tell it there is none, and the caller why
                await worker.ask(wire.frame(wire.Module(body=None)), answer_limit)
                return Fault(FaultReason.INTERNAL, f"module source: {error!r}")
            reply = await worker.ask(module, COMPILE_LIMIT_S)
            if isinstance(reply, wire.Compiled):
                reply = await worker.ask(b"", answer_limit)
        if isinstance(reply, wire.Done) and reply.job_id == job.job_id:
            return wire.outcome_of(reply)
        if isinstance(reply, wire.Failed) and reply.job_id == job.job_id:
            return Fault(reply.reason, reply.detail)
        raise WorkerLost(f"{type(reply).__name__} out of turn")


@asynccontextmanager
async def open_pool(
    workers: int,
    *,
    module_source: ModuleSource,
    queue_limit: int = 1024,
    expected_engine_id: bytes | None = None,
) -> AsyncIterator[WorkerPool]:
    """Run `workers` processes while the block lasts; leaving it kills them.

    `expected_engine_id` is the network's pinned engine; without it the first worker's counts. An
    exception of the block leaves as it is, not wrapped in a group.
    """
    if workers < 1 or queue_limit < 1:
        raise ValueError(f"workers {workers} and queue_limit {queue_limit} must be 1 or more")
    pool = WorkerPool(module_source, queue_limit, expected_engine_id)
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
