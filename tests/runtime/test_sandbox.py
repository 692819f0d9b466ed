"""Every outcome class by a real module, and what must not change a verdict."""

from __future__ import annotations

import hashlib
import threading

import msgpack
import msgspec
import pytest

from protocol.codec import sha256
from runtime.admission import MAX_FUNCTIONS, MAX_GLOBALS
from runtime.errors import AdmissionError, Fault, FaultReason
from runtime.job import guest_input
from runtime.outcome import Outcome, OutcomeClass
from runtime.sandbox import Sandbox
from tests.runtime.modules import (
    ALLOC,
    LOG,
    LOOP,
    POLICY,
    SHA256,
    TIME_MS,
    compiled,
    echo_input,
    job_for,
    module,
    output,
    returning,
    text,
)

GROW_UNTIL_REFUSED = """
    (block (loop (br_if 1 (i32.eq (memory.grow (i32.const 1)) (i32.const -1))) (br 0)))
"""
NEGATIVE = "(i64.or (i64.shl (i64.const 8) (i64.const 32)) (i64.const 0xfffffff8))"
RECURSE = "(call $evaluate (local.get 0) (local.get 1))"
FLOOD = "(loop (call $log (i32.const 16) (i32.const 2)) (br 0)) (i64.const 0)"

ENDINGS: list[tuple[str, bytes, OutcomeClass]] = [
    ("answers", module(), OutcomeClass.OK),
    ("infinite loop", module(LOOP), OutcomeClass.OUT_OF_FUEL),
    ("unreachable", module("unreachable"), OutcomeClass.TRAP),
    ("division by zero", module("(i64.div_u (i64.const 1) (i64.const 0))"), OutcomeClass.TRAP),
    ("deep recursion", module(RECURSE), OutcomeClass.TRAP),
    ("load out of bounds", module("(i64.load (i32.const -8))"), OutcomeClass.TRAP),
    ("memory eater", module(GROW_UNTIL_REFUSED + "unreachable"), OutcomeClass.TRAP),
    ("memory eater gives up", module(GROW_UNTIL_REFUSED + returning(output())), OutcomeClass.OK),
    ("initial memory", module(memory='(memory (export "memory") 17)'), OutcomeClass.MEMORY_LIMIT),
    (
        "alloc gives nothing",
        module(alloc='(func (export "alloc") (param i32) (result i32) i32.const 0)'),
        OutcomeClass.MEMORY_LIMIT,
    ),
    (
        "alloc out of bounds",
        module(alloc='(func (export "alloc") (param i32) (result i32) i32.const -4)'),
        OutcomeClass.TRAP,
    ),
    ("output too long", module("(i64.const 0x0000020100000010)"), OutcomeClass.OUTPUT_LIMIT),
    ("output at a negative pointer", module(NEGATIVE), OutcomeClass.BAD_OUTPUT),
    ("garbage", module(data=b"garbage"), OutcomeClass.BAD_OUTPUT),
    ("empty output", module("(i64.const 0)"), OutcomeClass.BAD_OUTPUT),
    ("trailing byte", module(data=output() + b"\0"), OutcomeClass.BAD_OUTPUT),
    ("log flood", module(FLOOD, imports=LOG), OutcomeClass.HOST_LIMIT),
    (
        "log at a negative pointer",
        module("(call $log (i32.const -8) (i32.const 8)) (i64.const 0)", imports=LOG),
        OutcomeClass.TRAP,
    ),
    (
        "log of 4 GiB",
        module("(call $log (i32.const 0) (i32.const -1)) (i64.const 0)", imports=LOG),
        OutcomeClass.OUT_OF_FUEL,
    ),
    (
        "start section traps",
        module(more="(func $boot unreachable) (start $boot)"),
        OutcomeClass.TRAP,
    ),
    (
        "start section loops",
        module(more="(func $boot (loop (br 0))) (start $boot)"),
        OutcomeClass.OUT_OF_FUEL,
    ),
    (
        "segment out of bounds",
        module(more='(data (i32.const 131071) "ab")'),
        OutcomeClass.TRAP,
    ),
    ("no alloc", module(alloc=""), OutcomeClass.MISSING_EXPORT),
    ("no memory export", module(memory="(memory 2)"), OutcomeClass.MISSING_EXPORT),
    (
        "alloc of another type",
        module(alloc='(func (export "alloc") (result i32) i32.const 4096)'),
        OutcomeClass.MISSING_EXPORT,
    ),
    ("WAT text", b'(module (memory (export "memory") 1))', OutcomeClass.INVALID_MODULE),
    ("no bytes", b"", OutcomeClass.INVALID_MODULE),
    ("half a module", module()[:-10], OutcomeClass.INVALID_MODULE),
    (
        "ill-typed code",
        module().replace(b"\x41\x80\x20\x0b", b"\x42\x80\x20\x0b"),
        OutcomeClass.INVALID_MODULE,
    ),
    (
        "unknown import",
        module(imports='(import "env" "clock" (func (result i64)))'),
        OutcomeClass.INVALID_MODULE,
    ),
]


def run(sandbox: Sandbox, code: bytes, **changes: object) -> Outcome:
    return sandbox.evaluate(job_for(sandbox.load(code), **changes))


@pytest.mark.parametrize(("code", "expected"), [pytest.param(c, e, id=n) for n, c, e in ENDINGS])
def test_each_ending_has_its_class_twice(
    sandbox: Sandbox, code: bytes, expected: OutcomeClass
) -> None:
    first = run(sandbox, code)
    assert first.outcome_class is expected, first.message
    assert run(sandbox, code) == first
    if expected is not OutcomeClass.OK:
        assert (first.score, first.valid, first.output) == (0, False, b"")


def test_every_class_is_provoked() -> None:
    assert {expected for _, _, expected in ENDINGS} == set(OutcomeClass)


def test_an_ok_outcome_carries_what_the_guest_said(sandbox: Sandbox) -> None:
    outcome = run(sandbox, module(data=output(42, message="fine", a=-1, b=2)))
    assert (outcome.score, outcome.valid, outcome.message) == (42, True, "fine")
    assert outcome.metrics == {"a": -1, "b": 2}
    assert 0 < outcome.fuel_used < 1_000


def test_an_invalid_submission_scores_nothing_whatever_the_guest_says(sandbox: Sandbox) -> None:
    outcome = run(sandbox, module(data=output(42, valid=False)))
    assert (outcome.outcome_class, outcome.score, outcome.valid) == (OutcomeClass.OK, 0, False)


def test_any_trap_bills_the_whole_fuel(sandbox: Sandbox) -> None:
    assert run(sandbox, module("unreachable")).fuel_used == POLICY.fuel


def test_the_guest_gets_the_map_of_the_abi(sandbox: Sandbox) -> None:
    job = job_for(sandbox.load(echo_input()))
    data = guest_input(job)
    value = msgpack.unpackb(data)
    assert [*value] == ["submission", "miner", "challenge", "context"]
    assert [*value["challenge"]] == ["id", "version", "params"]
    assert [*value["context"]] == ["epoch", "height", "time_ms", "seed"]
    assert value["challenge"]["params"] == {"rounds": 3}
    assert value["submission"] == b"submission"
    assert sandbox.evaluate(job).log == (data.decode(errors="replace"),)


def test_nothing_survives_an_evaluation(sandbox: Sandbox) -> None:
    # answers only while the byte at 8 is 0, and sets it
    body = f"(if (i32.load8_u (i32.const 8)) (then unreachable)) \
        (i32.store8 (i32.const 8) (i32.const 1)) {returning(output())}"
    code = module(body)
    assert run(sandbox, code) == run(sandbox, code)


@pytest.mark.parametrize("address", [70_000, 262_143, 262_144, 600_000, 1_048_575])
def test_no_byte_of_a_memory_reaches_the_next_one(sandbox: Sandbox, address: int) -> None:
    memory = '(memory (export "memory") 16)'
    dirty = module(
        f"(memory.fill (i32.const 65536) (i32.const 7) (i32.const 983040)) {returning(output())}",
        memory=memory,
    )
    look = module(
        f"(if (i32.load8_u (i32.const {address})) (then unreachable)) {returning(output())}",
        memory=memory,
    )
    for code in (look, dirty, look):
        assert run(sandbox, code).outcome_class is OutcomeClass.OK


def test_no_entry_of_a_table_reaches_the_next_one(sandbox: Sandbox) -> None:
    table = "(table 10000 funcref) (type $none (func)) (func $nothing)"
    fill = f"(table.fill (i32.const 0) (ref.func $nothing) (i32.const 10000)) \
        {returning(output())}"
    dirty = module(fill, more=table + "(elem declare func $nothing)")
    look = module(
        f"(call_indirect (type $none) (i32.const 9999)) {returning(output())}", more=table
    )
    for code, expected in ((dirty, "ok"), (look, "indirect_call_to_null")):
        outcome = run(sandbox, code)
        assert expected in {outcome.outcome_class.value, outcome.message}


def test_the_largest_admissible_instance_finds_room(sandbox: Sandbox) -> None:
    functions = "".join(f"(func $f{n})" for n in range(MAX_FUNCTIONS - 2))
    elements = " ".join(f"$f{n}" for n in range(9_998))
    rest = " ".join(f"$f{n}" for n in range(9_998, MAX_FUNCTIONS - 2))
    code = module(
        memory='(memory (export "memory") 1024)',
        more=f"(table 10000 funcref) (elem (i32.const 0) {elements}) (elem declare func {rest}) "
        + "(global i64 (i64.const 1))" * MAX_GLOBALS
        + functions,
    )
    policy = msgspec.structs.replace(POLICY, memory_pages=1024)
    assert run(sandbox, code, policy=policy).outcome_class is OutcomeClass.OK


@pytest.mark.parametrize(
    "changes", [{"submission": b"other"}, {"version": 3}, {"miner": bytes(32)}]
)
def test_the_verdict_covers_the_input(sandbox: Sandbox, changes: dict[str, object]) -> None:
    code = module()
    assert run(sandbox, code).verdict_hash != run(sandbox, code, **changes).verdict_hash


def test_the_verdict_ignores_job_id_and_deadline(sandbox: Sandbox) -> None:
    code = module()
    other = run(sandbox, code, job_id=99, deadline_ms=60_000)
    assert run(sandbox, code).verdict_hash == other.verdict_hash


def test_a_deadline_is_a_fault(sandbox: Sandbox) -> None:
    endless = msgspec.structs.replace(POLICY, fuel=2**62)
    with pytest.raises(Fault) as caught:
        run(sandbox, module(LOOP), policy=endless, deadline_ms=100)
    assert caught.value.reason is FaultReason.DEADLINE
    assert run(sandbox, module()).outcome_class is OutcomeClass.OK


def test_faults_for_what_is_not_the_guests_doing(sandbox: Sandbox) -> None:
    for changes, reason in (
        ({"module_hash": bytes(32)}, FaultReason.MODULE_MISSING),
        ({"submission": bytes(65_537)}, FaultReason.BAD_JOB),
        ({"params": b"\x90"}, FaultReason.BAD_JOB),
        ({"params": b"\x80\x80"}, FaultReason.BAD_JOB),
    ):
        with pytest.raises(Fault) as caught:
            sandbox.evaluate(job_for(**{"module_hash": sandbox.load(module()), **changes}))
        assert caught.value.reason is reason


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    with Sandbox(max_cached_modules=2) as sandbox:
        first, second, third = (sandbox.load(module(data=output(n))) for n in (1, 2, 3))
        assert (first in sandbox, second in sandbox, third in sandbox) == (False, True, True)
        sandbox.evaluate(job_for(second))
        sandbox.load(module(data=output(4)))
        assert (second in sandbox, third in sandbox) == (True, False)


def test_threads_take_turns(sandbox: Sandbox) -> None:
    body = f"(call $sha256 (i32.const 0) (i32.const 1024) (i32.const 2048)) \
        (if (i64.ne (call $time_ms) (i64.load (local.get $ptr))) (then)) {returning(output())}"
    job = job_for(sandbox.load(module(body, imports=SHA256 + TIME_MS)))
    expected, found = sandbox.evaluate(job), []

    def work() -> None:
        found.extend(sandbox.evaluate(job) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 200


def test_check_admits_or_names_the_rule(sandbox: Sandbox) -> None:
    assert sandbox.check(module(), POLICY).memory_pages == 2
    refused = {
        "start": module(more="(func $boot unreachable) (start $boot)"),
        "magic": b"(module)",
        "import": module(imports='(import "env" "clock" (func (result i64)))'),
        "memory_pages": module(memory='(memory (export "memory") 17)'),
        "engine": compiled(
            f'(module (memory (export "memory") 2) {ALLOC} '
            '(func (export "evaluate") (param i32 i32) (result i64) (i64.const 0)))'
        ).replace(b"\x42\x00\x0b", b"\x41\x00\x0b"),
    }
    for rule, code in refused.items():
        with pytest.raises(AdmissionError) as caught:
            sandbox.check(code, POLICY)
        assert caught.value.rule == rule


def test_a_bug_in_a_host_function_is_a_fault(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = module(f"(call $log (i32.const 0) (i32.const 1)) {returning(output())}", imports=LOG)

    def broken(*_: object) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(sandbox._host, "_region", broken)
        with pytest.raises(Fault) as caught:
            run(sandbox, code)
    assert caught.value.reason is FaultReason.INTERNAL
    assert run(sandbox, code).outcome_class is OutcomeClass.OK


def test_a_modules_names_do_not_swell_the_message(sandbox: Sandbox) -> None:
    code = module(imports=f'(import "{"x" * 100_000}" "f" (func))')
    assert len(run(sandbox, code).message) == 1024


def test_what_load_returns_is_the_sha256(sandbox: Sandbox) -> None:
    code = module()
    assert sandbox.load(code) == hashlib.sha256(code).digest() == sha256(code)
    assert text(b"\x01") == "\\01"
