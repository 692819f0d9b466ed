"""Jobs lined up behind one another: same outcomes, and only the one being worked on can be lost."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import termios
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from protocol.codec import sha256
from runtime import slot, wire, worker_process
from runtime.errors import Fault
from runtime.fair_queue import Claim
from runtime.job import EvaluationJob
from runtime.outcome import OutcomeClass
from runtime.pool import WorkerPool, open_pool
from runtime.sandbox import Sandbox
from runtime.slot import MAX_IN_HAND, MAX_WAIT_MS
from tests.runtime.modules import job_for, module, output
from tests.runtime.test_pool import MODULES, children, endless_job, good_job, until

UNSEEN = [module(data=output(score=number)) for number in range(3)]
JOBS = 12
with Sandbox() as sandbox_:
    sandbox_.load(MODULES[good_job.module_hash])
    GOOD_OUTCOME = sandbox_.evaluate(good_job)


@asynccontextmanager
async def stopped_worker() -> AsyncIterator[tuple[WorkerPool, int]]:
    """Open a pool that knows how short its jobs are; its one worker stands still."""
    modules = MODULES | {sha256(code): code for code in UNSEEN}
    async with open_pool(1, module_source=modules.get) as pool:
        for _ in range(60):
            await pool.evaluate(good_job)
        assert pool._queue.peak_ms(good_job.challenge_id) < MAX_WAIT_MS
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pool, pid
        finally:
            if pid in children():
                os.kill(pid, signal.SIGCONT)


async def ask(
    pool: WorkerPool, job: EvaluationJob, endings: Counter[str], claim: Claim | None = None
) -> None:
    try:
        endings[(await pool.evaluate(job, claim)).outcome_class] += 1
    except Fault as fault:
        endings[fault.reason] += 1


def in_hand(pool: WorkerPool) -> int:
    return sum(len(slot.hand) for slot in pool._slots)


async def until_in_hand(pool: WorkerPool, number: int) -> None:
    await until(lambda: in_hand(pool) == number)


@pytest.mark.trio
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_a_lost_worker_spoils_the_first_job_only(ending: signal.Signals) -> None:
    endings: Counter[str] = Counter()
    async with stopped_worker() as (pool, pid), trio.open_nursery() as nursery:
        for _ in range(JOBS):
            nursery.start_soon(ask, pool, good_job, endings)
        await until(lambda: in_hand(pool) + pool.queued == JOBS)
        assert 1 <= in_hand(pool) <= MAX_IN_HAND
        assert pool.stats().running == {good_job.challenge_id: 1}
        os.kill(pid, ending)
        os.kill(pid, signal.SIGCONT)
    assert endings == {"worker_lost": 1, OutcomeClass.OK: JOBS - 1}
    assert pool.replaced == 1


def unread(descriptor: int) -> int:
    """Return how many bytes wait in a pipe."""
    number = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, number)
    return number[0]


def end_after_answers(pool: WorkerPool, pid: int, size: int) -> None:
    """Let the worker write `size` bytes and kill it, while the node's loop stands still."""
    os.kill(pid, signal.SIGCONT)
    until_s = time.monotonic() + 20
    while unread(pool._slots[0]._worker._output) < size:
        assert time.monotonic() < until_s
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.trio
async def test_answers_given_before_the_loss_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "MAX_WAIT_MS", 60_000)
    first, last = Counter[str](), Counter[str]()
    async with stopped_worker() as (pool, pid), trio.open_nursery() as nursery:
        for number in range(3):
            job, endings = (good_job, first) if number < 2 else (endless_job, last)
            nursery.start_soon(ask, pool, job, endings)
            await until_in_hand(pool, number + 1)
        answer = wire.Done(job_id=1, outcome=GOOD_OUTCOME, took_us=0)
        end_after_answers(pool, pid, 2 * len(wire.frame(answer)))
    assert first == {OutcomeClass.OK: 2}
    assert last == {"worker_lost": 1}


@pytest.mark.trio
async def test_what_a_lost_worker_had_not_begun_is_done_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endings: Counter[str] = Counter()
    async with open_pool(2, module_source=MODULES.get) as pool:
        await until(lambda: pool.alive == 2)
        for _ in range(60):
            await pool.evaluate(good_job)
        pids = children()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for _ in range(JOBS):
                nursery.start_soon(ask, pool, good_job, endings)
            await until(lambda: in_hand(pool) + pool.queued == JOBS)
            monkeypatch.setattr(worker_process, "COMMAND", ("/bin/false",))
            os.kill(pids[0], signal.SIGKILL)
            os.kill(pids[1], signal.SIGCONT)
        assert endings == {"worker_lost": 1, OutcomeClass.OK: JOBS - 1}


@pytest.mark.trio
async def test_no_challenge_is_lined_up_behind_another() -> None:
    endings: Counter[str] = Counter()
    async with stopped_worker() as (pool, pid), trio.open_nursery() as nursery:
        nursery.start_soon(ask, pool, good_job, endings)
        await until(lambda: in_hand(pool) == 1)
        for _ in range(3):
            nursery.start_soon(ask, pool, good_job, endings, Claim("other"))
        await until(lambda: pool.queued == 3)
        assert in_hand(pool) == 1
        os.kill(pid, signal.SIGCONT)
    assert endings == {OutcomeClass.OK: 4}


@pytest.mark.trio
async def test_jobs_lined_up_before_the_answer_to_a_question_wait_their_turn(
    sandbox: Sandbox,
) -> None:
    jobs = [good_job, *(job_for(sha256(code)) for code in UNSEEN)] * 2
    found = {}

    async def run(number: int) -> None:
        found[number] = await pool.evaluate(jobs[number])

    async with stopped_worker() as (pool, pid), trio.open_nursery() as nursery:
        for number in range(len(jobs)):
            nursery.start_soon(run, number)
        await until(lambda: in_hand(pool) + pool.queued == len(jobs))
        os.kill(pid, signal.SIGCONT)
    for code in UNSEEN:
        sandbox.load(code)
    sandbox.load(MODULES[good_job.module_hash])
    assert [found[number] for number in range(len(jobs))] == [sandbox.evaluate(j) for j in jobs]


@pytest.mark.trio
async def test_nothing_is_lined_up_behind_a_long_job() -> None:
    long = msgspec.structs.replace(endless_job, deadline_ms=1_000)
    async with open_pool(1, module_source=MODULES.get) as pool:
        for _ in range(30):
            await pool.evaluate(good_job)
        async with trio.open_nursery() as nursery:
            endings: Counter[str] = Counter()
            nursery.start_soon(ask, pool, long, endings)
            await until(lambda: pool.busy == 1)
            await until(lambda: not pool._slots[0].has_room)
            for _ in range(3):
                nursery.start_soon(ask, pool, good_job, endings)
            await until(lambda: pool.queued == 3)
            assert in_hand(pool) == 1
        assert endings == {"deadline": 1, OutcomeClass.OK: 3}
        assert pool._queue.peak_ms(good_job.challenge_id) > MAX_WAIT_MS


@pytest.mark.trio
async def test_an_idle_worker_goes_before_a_line() -> None:
    async with open_pool(2, module_source=MODULES.get) as pool:
        await until(lambda: pool.alive == 2)
        for _ in range(30):
            await pool.evaluate(good_job)
        for pid in children():
            os.kill(pid, signal.SIGSTOP)
        endings: Counter[str] = Counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, pool, good_job, endings)
            nursery.start_soon(ask, pool, good_job, endings)
            await until(lambda: in_hand(pool) == 2)
            assert [len(slot.hand) for slot in pool._slots] == [1, 1]
            for pid in children():
                os.kill(pid, signal.SIGCONT)
        assert endings == {OutcomeClass.OK: 2}


@pytest.mark.trio
async def test_cancelled_jobs_in_line_disturb_nobody() -> None:
    endings: Counter[str] = Counter()
    async with stopped_worker() as (pool, pid), trio.open_nursery() as nursery:
        async with trio.open_nursery() as doomed:
            for _ in range(3):
                doomed.start_soon(ask, pool, good_job, endings)
            await until(lambda: in_hand(pool) + pool.queued == 3)
            doomed.cancel_scope.cancel()
        for _ in range(JOBS):
            nursery.start_soon(ask, pool, good_job, endings)
        await until(lambda: in_hand(pool) + pool.queued >= JOBS)
        os.kill(pid, signal.SIGCONT)
    assert endings == {OutcomeClass.OK: JOBS}
    assert pool.replaced == 0
