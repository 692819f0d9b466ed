"""The pool and its processes: same verdicts, and nothing lost when a worker is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from protocol.codec import sha256
from runtime import slot, wire, worker_process
from runtime.errors import Fault, FaultReason
from runtime.outcome import Outcome, OutcomeClass
from runtime.pool import WorkerPool, open_pool
from runtime.sandbox import Sandbox
from runtime.worker_process import WorkerProcess
from tests.runtime.compilers import new_compiler
from tests.runtime.modules import LOOP, POLICY, job_for, module
from tests.runtime.test_sandbox import ENDINGS

GOOD = module()
ENDLESS = module(LOOP)
MODULES = {sha256(code): code for code in (GOOD, ENDLESS)}
UNMETERED = msgspec.structs.replace(POLICY, fuel=2**62)
good_job = job_for(sha256(GOOD))
endless_job = job_for(sha256(ENDLESS), policy=UNMETERED)


def children() -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "runtime.worker" in line]


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - processes give no event
            await trio.sleep(0.01)


async def fault_of(pool: WorkerPool, job: object) -> FaultReason:
    with pytest.raises(Fault) as caught:
        await pool.evaluate(job)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.trio
async def test_every_ending_is_the_same_in_a_worker(sandbox: Sandbox) -> None:
    modules = {sha256(code): code for _, code, _ in ENDINGS}
    async with open_pool(2, module_source=modules.get) as pool:
        found: dict[bytes, Outcome] = {}

        async def run(code_hash: bytes) -> None:
            found[code_hash] = await pool.evaluate(job_for(code_hash))

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for code_hash in modules:
                    nursery.start_soon(run, code_hash)
            for code_hash, code in modules.items():
                assert found[code_hash] == sandbox.evaluate(job_for(sandbox.load(code)))
        assert pool.engine_id == sandbox.engine_id
        assert sum(pool.evaluated.values()) == 2 * len(modules)
        assert (pool.busy, pool.queued, pool.replaced) == (0, 0, 0)
    assert children() == []


@pytest.mark.trio
async def test_a_killed_worker_is_replaced_and_the_next_job_works() -> None:
    async with open_pool(1, module_source=MODULES.get) as pool:
        await pool.evaluate(good_job)
        (first,) = children()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def doomed() -> None:
                assert await fault_of(pool, endless_job) is FaultReason.WORKER_LOST

            await until(lambda: pool.busy == 1)
            await trio.sleep(0.1)
            os.kill(first, signal.SIGKILL)
        assert (await pool.evaluate(good_job)).outcome_class is OutcomeClass.OK
        assert (pool.replaced, children() != [first]) == (1, True)


@pytest.mark.trio
async def test_a_worker_that_dies_idle_spoils_no_job() -> None:
    async with open_pool(1, module_source=MODULES.get) as pool:
        await pool.evaluate(good_job)
        os.kill(children()[0], signal.SIGKILL)
        await trio.sleep(0.1)
        assert (await pool.evaluate(good_job)).outcome_class is OutcomeClass.OK
        assert pool.replaced == 1


@pytest.mark.trio
async def test_the_epoch_deadline_is_a_fault_and_the_worker_lives_on() -> None:
    async with open_pool(1, module_source=MODULES.get) as pool:
        job = msgspec.structs.replace(endless_job, deadline_ms=100)
        assert await fault_of(pool, job) is FaultReason.DEADLINE
        assert pool.faults[FaultReason.DEADLINE] == 1
        assert (await pool.evaluate(good_job)).outcome_class is OutcomeClass.OK
        assert pool.replaced == 0


@pytest.mark.trio
async def test_a_hung_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "GRACE_S", 0.2)
    async with open_pool(1, module_source=MODULES.get) as pool:
        await pool.evaluate(good_job)
        (first,) = children()
        os.kill(first, signal.SIGSTOP)
        job = msgspec.structs.replace(good_job, deadline_ms=100)
        assert await fault_of(pool, job) is FaultReason.DEADLINE
        assert (await pool.evaluate(good_job)).outcome_class is OutcomeClass.OK
        assert pool.replaced == 1


@pytest.mark.trio
async def test_cancelled_callers_never_break_the_framing() -> None:
    async with open_pool(2, module_source=MODULES.get) as pool:
        expected = await pool.evaluate(good_job)
        for wait_us in range(0, 2_000, 20):
            with trio.move_on_after(wait_us / 1e6):
                await pool.evaluate(msgspec.structs.replace(good_job, submission=bytes(60_000)))
            assert await pool.evaluate(good_job) == expected
        await until(lambda: pool.busy == 0)
        assert (pool.queued, pool.replaced) == (0, 0)


@pytest.mark.trio
async def test_the_queue_is_bounded() -> None:
    async with open_pool(1, module_source=MODULES.get, queue_limit=2) as pool:
        await pool.evaluate(good_job)
        slow = msgspec.structs.replace(endless_job, deadline_ms=300)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fault_of, pool, slow)
            await until(lambda: pool.busy == 1)
            nursery.start_soon(pool.evaluate, good_job)
            nursery.start_soon(pool.evaluate, good_job)
            await until(lambda: pool.queued == 2)
            assert await fault_of(pool, good_job) is FaultReason.OVERLOADED
        assert pool.evaluated[OutcomeClass.OK] == 3


@pytest.mark.trio
async def test_modules_that_cannot_be_had() -> None:
    def broken(_: bytes) -> bytes | None:
        raise OSError("disk")

    for source, reason in (
        ({}.get, FaultReason.MODULE_MISSING),
        (lambda _: b"other bytes", FaultReason.MODULE_MISSING),
        (broken, FaultReason.INTERNAL),
    ):
        async with open_pool(1, module_source=source) as pool:
            assert await fault_of(pool, good_job) is reason
            assert await fault_of(pool, good_job) is reason
            assert pool.replaced == 0


@pytest.mark.trio
async def test_another_engine_than_the_pinned_one_is_a_fault() -> None:
    async with open_pool(1, module_source=MODULES.get, expected_engine_id=bytes(32)) as pool:
        assert await fault_of(pool, good_job) is FaultReason.ENGINE_MISMATCH


@pytest.mark.trio
async def test_workers_that_cannot_start_fail_their_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "COMMAND", ("/bin/false",))
    async with open_pool(1, module_source=MODULES.get) as pool:
        assert await fault_of(pool, good_job) is FaultReason.WORKER_LOST


@pytest.mark.trio
async def test_one_failed_start_fails_no_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = f'[ -e "{tmp_path}/tried" ] && exec "$@"; touch "{tmp_path}/tried"; exit 1'
    monkeypatch.setattr(
        worker_process, "COMMAND", ("/bin/sh", "-c", once, "sh", *worker_process.COMMAND)
    )
    async with open_pool(1, module_source=MODULES.get) as pool:
        assert (await pool.evaluate(good_job)).outcome_class is OutcomeClass.OK
        assert pool.replaced == 1


@pytest.mark.trio
async def test_a_worker_never_preempts_the_node() -> None:
    async with open_pool(1, module_source=MODULES.get) as pool:
        await pool.evaluate(good_job)
        assert [os.sched_getscheduler(pid) for pid in children()] == [os.SCHED_BATCH]
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.trio
async def test_closing_ends_the_jobs_not_done() -> None:
    async with trio.open_nursery() as nursery, open_pool(1, module_source=MODULES.get) as pool:

        @nursery.start_soon
        async def waiting() -> None:
            assert await fault_of(pool, endless_job) is FaultReason.CLOSED

        await until(lambda: pool.busy == 1)
        pool.close()
        assert await fault_of(pool, good_job) is FaultReason.CLOSED
    assert children() == []


@pytest.mark.trio
async def test_an_error_of_the_block_leaves_it_unwrapped() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_pool(1, module_source=MODULES.get):
            raise ZeroDivisionError
    assert children() == []


@pytest.mark.trio
async def test_a_worker_ignores_sigint_and_ends_with_its_input() -> None:
    worker = WorkerProcess()
    await worker.start()
    assert isinstance(await worker.receive(), wire.Ready)
    process = worker._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.stdin is not None
    reply = await worker.ask(wire.frame(wire.Run(job=good_job)), 10)
    assert isinstance(reply, wire.Need)
    await process.stdin.aclose()
    with trio.fail_after(10):
        assert await process.wait() == 0
    await worker.kill()


@pytest.mark.trio
async def test_a_challenge_that_floods_leaves_room_for_others() -> None:
    slow = msgspec.structs.replace(endless_job, challenge_id="flood", deadline_ms=1_000)
    async with open_pool(2, module_source=MODULES.get, challenge_cap=1) as pool:
        await until(lambda: pool.alive == 2)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fault_of, pool, slow)
            await until(lambda: pool.queued == 2)
            assert pool.stats().running == {"flood": 1}
            await pool.evaluate(good_job)
            assert pool.stats().waiting["flood"] >= 1
        assert pool.stats().waiting == pool.stats().running == {}


@pytest.mark.trio
async def test_the_stats_are_live() -> None:
    async with open_pool(2, module_source=MODULES.get) as pool:
        await pool.evaluate(good_job)
        slow = msgspec.structs.replace(endless_job, challenge_id="slow", deadline_ms=300)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fault_of, pool, slow)
            await until(lambda: pool.busy == 2 and pool.queued == 1)
            stats = pool.stats()
            assert (stats.workers, stats.running, stats.waiting) == (2, {"slow": 2}, {"slow": 1})
        stats = pool.stats()
        assert (stats.faults[FaultReason.DEADLINE], stats.evaluated[OutcomeClass.OK]) == (3, 1)
        assert stats.busy_s > 0.8


@pytest.mark.trio
async def test_large_jobs_take_the_slower_way() -> None:
    async with open_pool(1, module_source=MODULES.get) as pool:
        large = msgspec.structs.replace(good_job, submission=bytes(65_000))
        for job in (good_job, large, good_job, large):
            assert (await pool.evaluate(job)).outcome_class is OutcomeClass.OK
        assert pool.replaced == 0


@pytest.mark.trio
async def test_a_pool_closed_while_it_compiles_ends_the_caller(tmp_path: Path) -> None:
    async with open_pool(1, module_source={}.get, compiler=new_compiler(tmp_path)) as pool:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def waiting() -> None:
                assert await fault_of(pool, good_job) is FaultReason.CLOSED

            await until(lambda: pool.stats().preparing == 1)
            pool.close()
        assert pool.stats().preparing == 0
