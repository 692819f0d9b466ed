"""One place of the pool: a worker process, the jobs it has in hand, and what may be said to it.

Rules:
1. A slot belongs to one task, which alone reads the worker's pipe. Only `take` is called from
   elsewhere: it writes a whole job at once, or nothing. This saves the turn of the event loop that
   waking the task first would cost.
2. Short jobs are lined up behind the one being worked on, so that the worker finds the next one in
   its pipe: going to sleep and waking up takes both sides longer than a small evaluation. At most
   `MAX_IN_HAND`, and none behind work that may take longer than `MAX_WAIT_MS` as far as one knows.
3. The worker works in order and answers each job before it looks at the next. So when it is lost,
   only the first in hand may have been begun; the others go back to the queue.
4. A job's time runs from the moment its worker turned to it; what the worker asks for in between
   (module, data) has limits of its own.
5. After `WorkerLost`, or a cancellation, the process is of no more use (`runtime.worker_process`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from protocol.errors import ProtocolError
from protocol.records.challenge import MAX_DATA_BLOBS
from runtime import wire
from runtime.errors import Fault, FaultReason
from runtime.fair_queue import Claim
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.worker_process import WorkerLost, WorkerProcess

START_LIMIT_S = 30.0
COMPILE_LIMIT_S = 60.0
"""For a worker to load, or compile, what it asked for."""
GRACE_S = 2.0
"""What the epoch ticks, host functions and the pipes may add to a job's deadline."""
MAX_IN_HAND = 4
MAX_WAIT_MS = 2.0
"""What all the jobs ahead of one lined up may take together."""
MAX_QUESTIONS = 2 + 2 * MAX_DATA_BLOBS
"""What a worker may say before it answers a job."""

Answer = Callable[[wire.Need | wire.NeedBlob], Awaitable[bytes]]
"""Returns the frame that answers a worker's question. Raises `Fault`."""


class Ticket:
    """One job on its way; exactly one of `outcome` and `fault` is set before `done`."""

    __slots__ = ("abandoned", "claim", "done", "expected_ms", "fault", "job", "outcome", "started")

    def __init__(self, job: EvaluationJob, claim: Claim) -> None:
        """`claim` says on whose account it runs."""
        self.job = job
        self.claim = claim
        self.done = trio.Event()
        self.outcome: Outcome | None = None
        self.fault: Fault | None = None
        self.abandoned = False
        self.expected_ms = 0.0
        """What it may take, as far as anybody knows."""
        self.started = 0.0
        """When its worker turned to it, in trio's time."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not (self.abandoned or self.done.is_set())


class Answered(NamedTuple):
    """What came of a job, and how long the worker worked on it by its own clock."""

    result: Outcome | Fault
    took_ms: float = 0.0


class Slot:
    """A worker process and the jobs in its hand."""

    def __init__(self, answer: Answer) -> None:
        self._worker = WorkerProcess()
        self._answer = answer
        self._doze: trio.CancelScope | None = None
        self._written = 0
        self._expected_ms = 0.0
        self.hand: deque[Ticket] = deque()
        """The job being worked on, and those lined up behind it; all of one challenge."""
        self.failures = 0
        """Failed starts in a row."""

    @property
    def begun(self) -> bool:
        """Whether the worker may have seen the first job; if not, another worker can have it."""
        return self._written > 0

    @property
    def has_room(self) -> bool:
        """Whether a job may be taken now."""
        if not self.hand:
            return True
        if len(self.hand) >= MAX_IN_HAND or self._written < len(self.hand):
            return False
        elapsed_ms = (trio.current_time() - self.hand[0].started) * 1000
        return elapsed_ms + self._expected_ms <= MAX_WAIT_MS

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

    def take(self, ticket: Ticket) -> None:
        """Take a job in hand; give it to the worker at once if that can be done without waiting."""
        is_next = self._written == len(self.hand)
        self.hand.append(ticket)
        self._expected_ms += ticket.expected_ms
        if is_next and self._write(ticket.job):
            self._written += 1
        if len(self.hand) == 1:
            self._begin()

    def put_down(self) -> Ticket:
        """Take the first job out of the slot's hand."""
        ticket = self.hand.popleft()
        self._written = max(self._written - 1, 0)
        self._expected_ms -= ticket.expected_ms
        if self.hand:
            self._begin()
        else:
            self._expected_ms = 0.0  # the sum of floats need not be 0
        return ticket

    def _write(self, job: EvaluationJob) -> bool:
        try:
            return self._worker.write_at_once(wire.frame(wire.Run(job=job)))
        except ValueError:
            return False  # `work` says so

    def _begin(self) -> None:
        """Let the first job's time run; wake a dozing task if the worker has still to get it."""
        ticket = self.hand[0]
        ticket.started = trio.current_time()
        if self._doze is None:
            return
        if self.begun:
            self._doze.deadline = ticket.started + _limit_s(ticket.job)
        else:
            self._doze.cancel()

    async def doze(self) -> None:
        """Wait until there is a job in hand. Raises `WorkerLost` when the worker is gone."""
        try:
            with trio.CancelScope() as self._doze:
                await self._worker.readable()
            expired = self._doze.cancelled_caught and self.begun
        finally:
            self._doze = None
        if expired:
            raise WorkerLost("no answer before the deadline", FaultReason.DEADLINE)
        if not self.hand:
            raise WorkerLost("the worker ended while it was idle")

    async def work(self) -> Answered:
        """Bring the first job in hand to its end. Raises `WorkerLost`."""
        job = self.hand[0].job
        try:
            reply = await self._first_reply(job)
        except ValueError as error:
            return Answered(Fault(FaultReason.BAD_JOB, str(error)))
        for _ in range(MAX_QUESTIONS):
            if isinstance(reply, wire.Compiled):
                reply = await self._worker.ask(b"", _limit_s(job))
            elif isinstance(reply, wire.Need | wire.NeedBlob):
                try:
                    answer = await self._answer(reply)
                except Fault as fault:
                    await self._have_none(reply, job)
                    return Answered(fault)
                self.hand[0].started = trio.current_time()
                reply = await self._worker.ask(answer, COMPILE_LIMIT_S)
            else:
                break
        if isinstance(reply, wire.Done) and reply.job_id == job.job_id:
            return Answered(reply.outcome, reply.took_us / 1_000)
        if isinstance(reply, wire.Failed) and reply.job_id == job.job_id:
            return Answered(Fault(reply.reason, reply.detail), reply.took_us / 1_000)
        raise WorkerLost(f"{type(reply).__name__} out of turn")

    async def _have_none(self, question: wire.Need | wire.NeedBlob, job: EvaluationJob) -> None:
        """Tell the worker, which waits, that it gets no answer; it gives the job up."""
        nothing = wire.Module if isinstance(question, wire.Need) else wire.Blob
        reply = await self._worker.ask(wire.frame(nothing(body=None)), _limit_s(job))
        if not isinstance(reply, wire.Failed) or reply.job_id != job.job_id:
            raise WorkerLost(f"{type(reply).__name__} out of turn")

    async def _first_reply(self, job: EvaluationJob) -> wire.Reply:
        """Return what the worker says first about a job; `ValueError` if it cannot be written."""
        if self.begun:
            return self._worker.receive_at_once() or await self._worker.ask(b"", _limit_s(job))
        request = wire.frame(wire.Run(job=job))
        if not self._worker.alive:  # it died idle: no reason to spoil this job
            raise WorkerLost("the worker ended while it was idle")
        self._written = 1
        self.hand[0].started = trio.current_time()
        return await self._worker.ask(request, _limit_s(job))


def _limit_s(job: EvaluationJob) -> float:
    return job.deadline_ms / 1000 + GRACE_S
