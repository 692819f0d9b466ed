"""Storage and data: snapshot reads, buffered writes, bounds, prefixes, and what is hashed."""

from __future__ import annotations

import pytest

from protocol.codec import sha256
from protocol.records.challenge import DataBlob, RuntimePolicy
from protocol.records.challenge_storage import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITES,
    MAX_WRITTEN_BYTES,
    StorageEntry,
    StorageWrite,
)
from runtime import wire
from runtime.errors import Fault, FaultReason
from runtime.guest_storage import GuestStorage
from runtime.job import EvaluationJob
from runtime.outcome import Outcome, OutcomeClass
from runtime.pool import open_pool
from runtime.sandbox import Sandbox
from tests.runtime.modules import POLICY, job_for, module, output, returning
from tests.support import replaced

ALL = ("data_get", "log", "storage_get", "storage_put")
POLICY_WITH_STORAGE = RuntimePolicy(
    fuel=POLICY.fuel,
    memory_pages=POLICY.memory_pages,
    max_input_bytes=POLICY.max_input_bytes,
    max_output_bytes=POLICY.max_output_bytes,
    max_log_lines=POLICY.max_log_lines,
    host_functions=ALL,
    storage_bytes=MAX_WRITTEN_BYTES,
)
BLOB = DataBlob(key=b"count", digest=sha256(b"blob"))
IMPORTS = """
    (import "platform" "log" (func $log (param i32 i32)))
    (import "platform" "data_get" (func $data_get (param i32 i32 i32 i32) (result i32)))
    (import "platform" "storage_get" (func $storage_get (param i32 i32 i32 i32) (result i32)))
    (import "platform" "storage_put" (func $storage_put (param i32 i32 i32 i32)))
"""
WORDS = '(data (i32.const 1024) "countmissingvalue")'
COUNT, MISSING, VALUE = "(i32.const 1024) (i32.const 5)", "(i32.const 1029) (i32.const 7)", 1036


def guest(body: str) -> bytes:
    return module(f"{body} {returning(output())}", imports=IMPORTS, more=WORDS)


def storing(code_hash: bytes, **changes: object) -> EvaluationJob:
    return job_for(code_hash, **{"policy": POLICY_WITH_STORAGE, **changes})


def with_data(*blobs: DataBlob) -> RuntimePolicy:
    return replaced(POLICY_WITH_STORAGE, data=blobs)


def written(**values: bytes) -> tuple[StorageWrite, ...]:
    return tuple(StorageWrite(key=key.encode(), value=value) for key, value in values.items())


def run(sandbox: Sandbox, body: str, **changes: object) -> Outcome:
    return sandbox.evaluate(storing(sandbox.load(guest(body)), **changes))


def expect(call: str, result: int) -> str:
    return f"(if (i32.ne {call} (i32.const {result})) (then unreachable))"


SNAPSHOT = {"storage": (StorageEntry(key=b"count", value=b"1234567"),)}


def test_reads_see_the_snapshot_and_not_the_own_writes(sandbox: Sandbox) -> None:
    body = f"""
        (call $storage_put {COUNT} (i32.const {VALUE}) (i32.const 5))
        {expect(f"(call $storage_get {COUNT} (i32.const 4096) (i32.const 7))", 7)}
        (call $log (i32.const 4096) (i32.const 7))
        {expect(f"(call $storage_get {MISSING} (i32.const 4096) (i32.const 7))", -1)}"""
    outcome = run(sandbox, body, **SNAPSHOT)
    assert (outcome.outcome_class, outcome.log) == (OutcomeClass.OK, ("1234567",))
    assert outcome.writes == written(count=b"value")
    assert dict(outcome.host_calls) == {"log": 1, "storage_get": 2, "storage_put": 1}


def test_a_buffer_too_small_gets_the_length_and_no_byte(sandbox: Sandbox) -> None:
    body = f"""
        {expect(f"(call $storage_get {COUNT} (i32.const 65536) (i32.const 6))", 7)}
        {expect("(i32.load8_u (i32.const 65536))", 0)}"""
    assert run(sandbox, body, **SNAPSHOT).outcome_class is OutcomeClass.OK


def test_writes_are_part_of_the_verdict_and_the_snapshot_is_not_seen_by_others(
    sandbox: Sandbox,
) -> None:
    silent = f"(drop (call $storage_get {COUNT} (i32.const 4096) (i32.const 7)))"
    write = f"(call $storage_put {COUNT} (i32.const 4096) (i32.const 7))"
    first = run(sandbox, silent + write, **SNAPSHOT)
    entry = StorageEntry(key=b"count", value=b"7654321")
    second = run(sandbox, silent + write, storage=(entry,))
    assert first.writes == written(count=b"1234567")
    assert second.writes == written(count=b"7654321")
    assert first.verdict_hash != second.verdict_hash
    assert run(sandbox, silent).writes == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("unreachable", OutcomeClass.TRAP),
        ("(loop (br 0))", OutcomeClass.OUT_OF_FUEL),
    ],
)
def test_nothing_is_written_unless_the_outcome_is_ok(
    sandbox: Sandbox, body: str, expected: OutcomeClass
) -> None:
    write = f"(call $storage_put {COUNT} (i32.const {VALUE}) (i32.const 5))"
    outcome = run(sandbox, write + body)
    assert (outcome.outcome_class, outcome.writes) == (expected, ())


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("storage_put", (0, 0, 0, 1), "limit"),
        ("storage_put", (0, 65, 0, 1), "limit"),
        ("storage_put", (0, 1, 0, 8_193), "limit"),
        ("storage_put", (0, 64, 0, 8_192), "ok"),
        ("storage_put", (-1, 1, 0, 1), "trap"),
        ("storage_put", (0, 1, -1, 1), "trap"),
        ("storage_get", (-1, 1, 0, 1), "trap"),
        ("storage_get", (0, 1, 131_072, 1), "trap"),
        ("data_get", (0, 1, 0, -1), "trap"),
        ("data_get", (0, 131_072, 0, 0), "ok"),
        ("data_get", (0, -1, 0, 0), "fuel"),
    ],
)
def test_bounds(sandbox: Sandbox, name: str, arguments: tuple[int, ...], expected: str) -> None:
    classes = {
        "limit": OutcomeClass.HOST_LIMIT,
        "ok": OutcomeClass.OK,
        "trap": OutcomeClass.TRAP,
        "fuel": OutcomeClass.OUT_OF_FUEL,
    }
    call = f"(call ${name} {' '.join(f'(i32.const {value})' for value in arguments)})"
    body = call if name == "storage_put" else f"(drop {call})"
    assert run(sandbox, body).outcome_class is classes[expected]


@pytest.mark.parametrize("name", ["data_get", "storage_get"])
def test_key_bytes_are_charged_and_value_bytes_if_they_are_copied(
    sandbox: Sandbox, name: str
) -> None:
    sandbox.load_blob(b"1234567")
    data = with_data(DataBlob(key=b"count", digest=sha256(b"1234567")))

    def used(key_bytes: int, capacity: int) -> int:
        key = f"(i32.const 1024) (i32.const {key_bytes})"
        call = f"(drop (call ${name} {key} (i32.const 4096) (i32.const {capacity})))"
        return run(sandbox, call, policy=data, **SNAPSHOT).fuel_used

    assert used(5, 7) - used(5, 6) == 7, "all of the value or nothing"
    assert used(5, 8) == used(5, 7), "what there is, not what there is room for"
    assert used(4, 7) - used(3, 7) == 1, "a key that is not there, too"
    assert used(5, 6) - used(4, 6) == 1


def test_written_bytes_are_charged(sandbox: Sandbox) -> None:
    def used(key_bytes: int, value_bytes: int) -> int:
        key, value = f"(i32.const {key_bytes})", f"(i32.const {value_bytes})"
        call = f"(call $storage_put (i32.const 1024) {key} (i32.const {VALUE}) {value})"
        return run(sandbox, call).fuel_used

    assert used(5, 3) - used(4, 3) == used(5, 3) - used(5, 2) == 10


def test_the_sums_are_bounded() -> None:
    storage = GuestStorage(MAX_WRITTEN_BYTES)
    for number in range(MAX_WRITES):
        assert storage.put(bytes([number]), b"") is None
    assert storage.put(b"\x00", b"again") is None
    assert "keys" in str(storage.put(b"more", b""))
    storage = GuestStorage(MAX_WRITTEN_BYTES)
    size = MAX_VALUE_BYTES - 1
    for number in range(MAX_WRITTEN_BYTES // MAX_VALUE_BYTES):
        assert storage.put(bytes([number]), bytes(size)) is None
    assert "bytes" in str(storage.put(b"one", b""))
    assert storage.put(b"\x00", b"") is None
    assert storage.put(b"one", bytes(size - 3)) is None
    assert storage.refusal(MAX_KEY_BYTES, MAX_VALUE_BYTES) is None


def test_the_policy_bounds_what_is_written(sandbox: Sandbox) -> None:
    write = f"(call $storage_put {COUNT} (i32.const {VALUE}) (i32.const 5))"
    for storage_bytes, expected in ((10, OutcomeClass.OK), (9, OutcomeClass.HOST_LIMIT)):
        policy = replaced(POLICY_WITH_STORAGE, storage_bytes=storage_bytes)
        assert run(sandbox, write, policy=policy).outcome_class is expected


def test_bringing_a_jobs_data_pushes_only_that_of_others_out(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.sandbox.MAX_BLOB_BYTES", 60)
    mine, other, more = b"m" * 10, b"o" * 40, b"+" * 20
    bodies = {sha256(body): body for body in (mine, other, more)}
    both = [DataBlob(key=key, digest=sha256(body)) for key, body in ((b"a", mine), (b"b", more))]
    alone = DataBlob(key=b"o", digest=sha256(other))
    code = sandbox.load(module())
    for blobs in ([both[0]], [alone], both, [alone], both):
        job = job_for(code, policy=with_data(*blobs))
        for digest in sandbox.missing_blobs(job):
            sandbox.load_blob(bodies[digest])
        assert sandbox.evaluate(job).outcome_class is OutcomeClass.OK


def test_data_blobs_by_name(sandbox: Sandbox) -> None:
    code_hash = sandbox.load(
        guest(f"""
        {expect(f"(call $data_get {COUNT} (i32.const 4096) (i32.const 9))", 4)}
        (call $log (i32.const 4096) (i32.const 4))""")
    )
    job = storing(code_hash, policy=with_data(BLOB))
    assert sandbox.missing_blobs(job) == [sha256(b"blob")]
    with pytest.raises(Fault) as caught:
        sandbox.evaluate(job)
    assert caught.value.reason is FaultReason.MODULE_MISSING
    assert sandbox.load_blob(b"blob") == sha256(b"blob")
    assert sandbox.missing_blobs(job) == []
    assert sandbox.evaluate(job).log == ("blob",)


def test_two_entries_of_one_key_are_a_bad_job(sandbox: Sandbox) -> None:
    with pytest.raises(Fault) as caught:
        run(sandbox, "", storage=SNAPSHOT["storage"] * 2)
    assert caught.value.reason is FaultReason.BAD_JOB


async def test_data_and_writes_travel_through_a_worker(sandbox: Sandbox) -> None:
    code = guest(f"""
        (drop (call $data_get {COUNT} (i32.const 4096) (i32.const 9)))
        (call $storage_put {COUNT} (i32.const 4096) (i32.const 4))""")
    things = {sha256(code): code, sha256(b"blob"): b"blob"}
    job = storing(sha256(code), policy=with_data(BLOB))
    sandbox.load(code)
    sandbox.load_blob(b"blob")
    async with open_pool(1, module_source=things.get) as pool:
        for _ in range(2):
            outcome = await pool.evaluate(job)
            assert outcome == sandbox.evaluate(job)
            assert outcome.writes == written(count=b"blob")
        lost = storing(sha256(code), policy=with_data(replaced(BLOB, digest=bytes(32))))
        with pytest.raises(Fault) as caught:
            await pool.evaluate(lost)
        assert caught.value.reason is FaultReason.MODULE_MISSING
        assert (await pool.evaluate(job)).writes
        assert pool.replaced == 0


def test_frames_hold_the_largest_writes() -> None:
    storage = GuestStorage(MAX_WRITTEN_BYTES)
    storage.put(b"one", bytes(MAX_VALUE_BYTES))
    outcome = Outcome(
        outcome_class=OutcomeClass.OK,
        output=b"",
        score=0,
        valid=True,
        message="",
        fuel_used=0,
        verdict_hash=bytes(32),
        log=(),
        writes=storage.writes(),
    )
    frame = wire.frame(wire.Done(job_id=1, outcome=outcome, took_us=1))
    reply = wire.read_reply(frame[wire.LENGTH_BYTES :])
    assert isinstance(reply, wire.Done)
    assert reply.outcome == outcome
