"""The compiler: the same verdicts from artifacts, and every bad end is a fault with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.codec import sha256
from runtime import children, compiler
from runtime.artifact import Artifact, build
from runtime.artifact_cache import ArtifactCache
from runtime.compiler import Compiler
from runtime.engine import engine_id, new_engine
from runtime.errors import Fault, FaultReason
from runtime.outcome import OutcomeClass
from runtime.pool import open_pool
from runtime.sandbox import Sandbox
from tests.runtime.compilers import BIG, GOOD, GOOD_HASH, new_compiler
from tests.runtime.modules import job_for
from tests.runtime.test_sandbox import ENDINGS


async def fault_of(one: Compiler, module_hash: bytes) -> FaultReason:
    with pytest.raises(Fault) as caught:
        await one.artifact(module_hash)
    return caught.value.reason


def says(monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    monkeypatch.setattr(children, "command", lambda *_: command)


async def test_an_artifact_gives_the_verdict_of_the_module(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    one = new_compiler(tmp_path)
    artifact = await one.artifact(GOOD_HASH)
    assert await one.artifact(GOOD_HASH) == artifact
    assert (one.compiled, one.cache.events["hit"]) == (1, 1)
    expected = sandbox.evaluate(job_for(sandbox.load(GOOD)))
    with Sandbox() as other:
        other.load_artifact(artifact)
        assert other.evaluate(job_for(GOOD_HASH)) == expected


def test_every_ending_is_the_same_from_an_artifact(sandbox: Sandbox) -> None:
    engine = new_engine()
    with Sandbox(max_cached_modules=len(ENDINGS)) as other:
        for _, code, expected in ENDINGS:
            other.load_artifact(build(engine, engine_id(), code))
            outcome = other.evaluate(job_for(sha256(code)))
            assert outcome.outcome_class is expected
            assert outcome == sandbox.evaluate(job_for(sandbox.load(code)))


async def test_a_pool_with_a_compiler_evaluates_and_survives_a_restart(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    expected = sandbox.evaluate(job_for(sandbox.load(GOOD)))
    for compiled in (1, 0):
        one = new_compiler(tmp_path)
        async with open_pool(2, module_source={}.get, compiler=one) as pool:
            for _ in range(4):
                assert await pool.evaluate(job_for(GOOD_HASH)) == expected
        assert one.compiled == compiled


async def test_a_refusal_is_kept_like_code(tmp_path: Path) -> None:
    text = b"(module)"
    one = new_compiler(tmp_path, {sha256(text): text}.get)
    async with open_pool(1, module_source={}.get, compiler=one) as pool:
        outcome = await pool.evaluate(job_for(sha256(text)))
    assert outcome.outcome_class is OutcomeClass.INVALID_MODULE
    artifact = await one.artifact(sha256(text))
    assert artifact.refusal is not None
    assert (artifact.refusal.rule, one.compiled) == ("magic", 1)


async def test_a_damaged_artifact_is_compiled_again(tmp_path: Path) -> None:
    one = new_compiler(tmp_path)
    await one.artifact(GOOD_HASH)
    (path,) = (tmp_path / "artifacts").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert (await one.artifact(GOOD_HASH)).code
    assert (one.compiled, one.cache.events["dropped"]) == (2, 1)


async def test_a_full_disk_costs_one_compilation_and_not_one_an_evaluation(tmp_path: Path) -> None:
    one = new_compiler(tmp_path)
    (tmp_path / "artifacts" / f"{engine_id().hex()}-{GOOD_HASH.hex()}.artifact.part").mkdir()
    for _ in range(2):
        await one.prepare(GOOD_HASH)
        assert (await one.artifact(GOOD_HASH)).code
    assert (one.compiled, one.cache.events["unwritten"]) == (1, 1)


async def test_callers_share_one_child_and_outlive_the_one_that_started_it(tmp_path: Path) -> None:
    one = new_compiler(tmp_path)
    found: list[Artifact] = []

    async def want() -> None:
        found.append(await one.artifact(GOOD_HASH))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        @nursery.start_soon
        async def starter() -> None:
            with first:
                await one.artifact(GOOD_HASH)

        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(want)
        nursery.start_soon(want)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
    assert len(found) == 2
    assert one.compiled == 1


async def test_a_cpu_bomb_is_a_fault_and_is_not_tried_again_at_once(tmp_path: Path) -> None:
    one = new_compiler(tmp_path, cpu_s=1)
    assert await fault_of(one, sha256(BIG)) is FaultReason.COMPILE_LIMIT
    assert await fault_of(one, sha256(BIG)) is FaultReason.COMPILE_LIMIT
    assert one.faults == {FaultReason.COMPILE_LIMIT: 1}
    assert (await one.artifact(GOOD_HASH)).code


async def test_a_memory_bomb_is_a_fault(tmp_path: Path) -> None:
    one = new_compiler(tmp_path, memory_bytes=120 * 1024 * 1024)
    assert await fault_of(one, sha256(BIG)) is FaultReason.COMPILE_LIMIT


async def test_the_wall_clock_deadline_is_a_fault(tmp_path: Path) -> None:
    one = new_compiler(tmp_path, wall_s=0.05)
    assert await fault_of(one, GOOD_HASH) is FaultReason.COMPILE_TIMEOUT


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/bin/false",), FaultReason.COMPILE_CRASH),
        (("/bin/true",), FaultReason.COMPILE_CRASH),
        (("/bin/cat",), FaultReason.COMPILE_CRASH),
        (("/nowhere/at/all",), FaultReason.COMPILE_CRASH),
        (("/bin/sh", "-c", "kill -SEGV $$"), FaultReason.COMPILE_CRASH),
        (("/bin/sh", "-c", "kill -ABRT $$"), FaultReason.COMPILE_LIMIT),
        (("/bin/sh", "-c", "kill -KILL $$"), FaultReason.COMPILE_LIMIT),
        (("/bin/sh", "-c", "cat /dev/zero"), FaultReason.COMPILE_LIMIT),
    ],
)
async def test_every_end_of_the_child_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], reason: FaultReason
) -> None:
    monkeypatch.setattr(compiler, "MAX_ARTIFACT_BYTES", 100_000)
    says(monkeypatch, *command)
    assert await fault_of(new_compiler(tmp_path), GOOD_HASH) is reason


async def test_an_artifact_of_another_engine_or_module_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArtifactCache(tmp_path / "other", b"k" * 32, bytes(32))
    other = Compiler(cache, bytes(32), {GOOD_HASH: GOOD}.get)
    assert await fault_of(other, GOOD_HASH) is FaultReason.ENGINE_MISMATCH


async def test_modules_that_cannot_be_had(tmp_path: Path) -> None:
    def broken(_: bytes) -> bytes | None:
        raise OSError("disk")

    for source, reason in (
        ({}.get, FaultReason.MODULE_MISSING),
        (lambda _: b"other bytes", FaultReason.MODULE_MISSING),
        (broken, FaultReason.INTERNAL),
    ):
        one = new_compiler(tmp_path, source)
        assert await fault_of(one, GOOD_HASH) is reason
        async with open_pool(1, module_source={}.get, compiler=one) as pool:
            with pytest.raises(Fault) as caught:
                await pool.evaluate(job_for(GOOD_HASH))
            assert caught.value.reason is reason
            assert pool.replaced == 0
