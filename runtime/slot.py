"""One place of the pool: a worker process, the job it has in hand, and what may be said to it.

Rules:
1. A slot belongs to one task, which alone reads the worker's pipe. Only `hand_over` is called from
   elsewhere: it writes a whole job to an idle worker at once, or nothing. This saves the turn of
   the event loop that waking the task first would cost.
2. A job's time runs from the moment it was handed over; what the worker asks for in between
   (module, data) has limits of its own.
3. After `WorkerLost`, or a cancellation, the process is of no more use (`runtime.worker_process`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from protocol.errors import ProtocolError
from protocol.records.challenge import MAX_DATA_BLOBS
from runtime import wire
from runtime.errors import Fault, FaultReason
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.worker_process import WorkerLost, WorkerProcess

START_LIMIT_S = 30.0
COMPILE_LIMIT_S = 60.0
"""For a worker to load, or compile, what it asked for."""
GRACE_S = 2.0
"""What the epoch ticks, host functions and the pipes may add to a job's deadline."""
MAX_QUESTIONS = 2 + 2 * MAX_DATA_BLOBS
"""What a worker may say before it answers a job."""

Answer = Callable[[wire.Need | wire.NeedBlob], Awaitable[bytes]]
"""Returns the frame that answers a worker's question. Raises `Fault`."""


class Ticket:
    """One job on its way; exactly one of `outcome` and `fault` is set before `done`."""

    __slots__ = ("abandoned", "challenge", "done", "fault", "job", "outcome", "started")

    def __init__(self, job: EvaluationJob, challenge: str) -> None:
        """`challenge` is on whose account it runs."""
        self.job = job
        self.challenge = challenge
        self.done = trio.Event()
        self.outcome: Outcome | None = None
        self.fault: Fault | None = None
        self.abandoned = False
        self.started = 0.0
        """When a worker got it, in trio's time."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not (self.abandoned or self.done.is_set())


class Slot:
    """A worker process and the job in its hand."""

    def __init__(self, answer: Answer) -> None:
        self._worker = WorkerProcess()
        self._answer = answer
        self._doze: trio.CancelScope | None = None
        self.ticket: Ticket | None = None
        """The job in hand."""
        self.begun = False
        """Whether the worker may have seen it; if not, another worker can have it."""

    async def start(self) -> bytes:
        """Start a process and return its engine's id. Raises `Fault`."""
        try:
            with trio.fail_after(START_LIMIT_S):
                await self._worker.start()
                ready = await self._worker.receive()
        except (trio.TooSlowError, OSError, WorkerLost, ProtocolError, ValueError) as error:
            raise Fault(FaultReason.WORKER_LOST, f"a worker did not start: {error!r}") from error
        if not isinstance(ready, wire.Ready):
            raise Fault(FaultReason.WORKER_LOST, f"a worker began with {type(ready).__name__}")
        return ready.engine_id

    async def end(self) -> None:
        """Kill the process, if there is one."""
        await self._worker.kill()

    def hand_over(self, ticket: Ticket) -> None:
        """Give an idle worker a job, and wake the task if the worker did not take it at once."""
        assert self._doze is not None
        self._take(ticket)
        try:
            self.begun = self._worker.write_at_once(wire.frame(wire.Run(job=ticket.job)))
        except ValueError:
            self.begun = False  # `work` says so
        if self.begun:
            self._doze.deadline = ticket.started + _limit_s(ticket.job)
        else:
            self._doze.cancel()

    def hold(self, ticket: Ticket) -> None:
        """Take a job that `work` will give to the worker."""
        self._take(ticket)
        self.begun = False

    def _take(self, ticket: Ticket) -> None:
        assert self.ticket is None
        self.ticket = ticket
        ticket.started = trio.current_time()

    def put_down(self) -> Ticket:
        """Take the job out of the slot's hand."""
        ticket, self.ticket = self.ticket, None
        assert ticket is not None
        self.begun = False
        return ticket

    async def doze(self) -> None:
        """Wait until there is a job in hand. Raises `WorkerLost` when the worker is gone."""
        with trio.CancelScope() as self._doze:
            await self._worker.readable()
        expired = self._doze.cancelled_caught and self.begun
        self._doze = None
        if expired:
            raise WorkerLost("no answer before the deadline", FaultReason.DEADLINE)
        if self.ticket is None:
            raise WorkerLost("the worker ended while it was idle")

    async def work(self) -> Outcome | Fault:
        """Bring the job in hand to its end. Raises `WorkerLost`."""
        assert self.ticket is not None
        job = self.ticket.job
        limit_s = _limit_s(job)
        reply: wire.Reply | None
        if self.begun:
            reply = self._worker.receive_at_once()
            if reply is None:
                reply = await self._worker.ask(b"", limit_s)
        else:
            try:
                request = wire.frame(wire.Run(job=job))
            except ValueError as error:
                return Fault(FaultReason.BAD_JOB, str(error))
            if not self._worker.alive:  # it died idle: no reason to spoil this job
                raise WorkerLost("the worker ended while it was idle")
            self.begun = True
            reply = await self._worker.ask(request, limit_s)
        for _ in range(MAX_QUESTIONS):
            if isinstance(reply, wire.Compiled):
                reply = await self._worker.ask(b"", limit_s)
            elif isinstance(reply, wire.Need | wire.NeedBlob):
                try:
                    answer = await self._answer(reply)
                except Fault as fault:
                    # the worker waits: tell it there is none, and the caller why
                    nothing = wire.Module if isinstance(reply, wire.Need) else wire.Blob
                    await self._worker.ask(wire.frame(nothing(body=None)), limit_s)
                    return fault
                self.ticket.started = trio.current_time()
                reply = await self._worker.ask(answer, COMPILE_LIMIT_S)
            else:
                break
        if isinstance(reply, wire.Done) and reply.job_id == job.job_id:
            return wire.outcome_of(reply)
        if isinstance(reply, wire.Failed) and reply.job_id == job.job_id:
            return Fault(reply.reason, reply.detail)
        raise WorkerLost(f"{type(reply).__name__} out of turn")


def _limit_s(job: EvaluationJob) -> float:
    return job.deadline_ms / 1000 + GRACE_S
