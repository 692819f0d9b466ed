"""Host functions: what they give, what they cost, and that the policy closes them."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from runtime.host_functions import COSTS, MAX_LOG_BYTES, RANDOM_TAG
from runtime.outcome import OutcomeClass
from runtime.sandbox import Sandbox
from tests.runtime.modules import (
    LOG,
    POLICY,
    RANDOM,
    SHA256,
    TIME_MS,
    WORLD,
    job_for,
    module,
    output,
    returning,
)


def logged(sandbox: Sandbox, body: str, imports: str, size: int) -> bytes:
    """Run `body`, then read back `size` bytes at 1024 through hex digits in the log."""
    dump = f"""
        (local $i i32)
        {body}
        (loop $next
          (i32.store8 (i32.add (i32.const 8192) (i32.mul (local.get $i) (i32.const 2)))
            (i32.add (i32.const 65)
              (i32.shr_u (i32.load8_u offset=1024 (local.get $i)) (i32.const 4))))
          (i32.store8 (i32.add (i32.const 8193) (i32.mul (local.get $i) (i32.const 2)))
            (i32.add (i32.const 65)
              (i32.and (i32.load8_u offset=1024 (local.get $i)) (i32.const 15))))
          (br_if $next (i32.lt_u
            (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {size}))))
        (call $log (i32.const 8192) (i32.const {2 * size}))
        {returning(output())}"""
    outcome = sandbox.evaluate(job_for(sandbox.load(module(dump, imports=LOG + imports))))
    assert outcome.outcome_class is OutcomeClass.OK, outcome.message
    digits = [ord(letter) - 65 for letter in outcome.log[-1]]
    pairs = zip(digits[::2], digits[1::2], strict=True)
    return bytes(high << 4 | low for high, low in pairs)


def test_time_is_the_contexts(sandbox: Sandbox) -> None:
    found = logged(sandbox, "(i64.store (i32.const 1024) (call $time_ms))", TIME_MS, 8)
    assert int.from_bytes(found, "little") == WORLD.time_ms


def test_sha256(sandbox: Sandbox) -> None:
    body = "(call $sha256 (i32.const 16) (i32.const 5) (i32.const 1024))"
    assert logged(sandbox, body, SHA256, 32) == hashlib.sha256(output()[:5]).digest()


def test_random_is_the_seeds_counter_stream_over_calls(sandbox: Sandbox) -> None:
    body = """(call $random (i32.const 1024) (i32.const 5))
        (call $random (i32.const 1029) (i32.const 0))
        (call $random (i32.const 1029) (i32.const 95))"""
    stream = b"".join(
        hashlib.sha256(RANDOM_TAG + WORLD.seed + block.to_bytes(8, "big")).digest()
        for block in range(4)
    )
    assert logged(sandbox, body, RANDOM, 100) == stream[:100]


@pytest.mark.parametrize(
    ("call", "imports"),
    [
        ("(call $log (i32.const 131072) (i32.const 1))", LOG),
        ("(call $log (i32.const 131073) (i32.const 0))", LOG),
        ("(call $random (i32.const -1) (i32.const 1))", RANDOM),
        ("(call $sha256 (i32.const -1) (i32.const 1) (i32.const 0))", SHA256),
        ("(call $sha256 (i32.const 0) (i32.const 1) (i32.const 131041))", SHA256),
    ],
)
def test_a_region_outside_the_memory_traps(sandbox: Sandbox, call: str, imports: str) -> None:
    code = module(f"{call} {returning(output())}", imports=imports)
    outcome = sandbox.evaluate(job_for(sandbox.load(code)))
    assert outcome.outcome_class is OutcomeClass.TRAP
    assert outcome.message == "memory_out_of_bounds"


def test_the_edge_of_the_memory_does_not(sandbox: Sandbox) -> None:
    calls = """(call $log (i32.const 131072) (i32.const 0))
        (call $random (i32.const 131071) (i32.const 1))
        (call $sha256 (i32.const 0) (i32.const 1) (i32.const 131040))"""
    code = module(f"{calls} {returning(output())}", imports=LOG + RANDOM + SHA256)
    assert sandbox.evaluate(job_for(sandbox.load(code))).outcome_class is OutcomeClass.OK


@pytest.mark.parametrize(
    ("name", "imports", "call", "bytes_named"),
    [
        ("log", LOG, "(call $log (i32.const 0) (i32.const 100))", 100),
        ("time_ms", TIME_MS, "(drop (call $time_ms))", 0),
        ("random", RANDOM, "(call $random (i32.const 0) (i32.const 8))", 8),
        ("sha256", SHA256, "(call $sha256 (i32.const 0) (i32.const 9) (i32.const 64))", 9),
    ],
)
def test_costs_are_charged_and_running_out_is_out_of_fuel(
    sandbox: Sandbox, name: str, imports: str, call: str, bytes_named: int
) -> None:
    once = module(f"{call} {returning(output())}", imports=imports)
    twice = module(f"{call} {call} {returning(output())}", imports=imports)
    one, two = (sandbox.evaluate(job_for(sandbox.load(code))).fuel_used for code in (once, twice))
    per_call, per_byte = COSTS[name]
    host = per_call + per_byte * bytes_named
    assert host <= two - one <= host + 10
    # the engine itself looks at its counter only at function entries and loop heads
    for fuel, expected in ((one, OutcomeClass.OK), (host - 1, OutcomeClass.OUT_OF_FUEL)):
        policy = msgspec.structs.replace(POLICY, fuel=fuel)
        outcome = sandbox.evaluate(job_for(sandbox.load(once), policy=policy))
        assert outcome.outcome_class is expected


def test_the_costs_are_part_of_the_abi() -> None:
    """Other figures are other verdicts: they change with a new ABI alone."""
    assert COSTS == {
        "log": (5_000, 1), "time_ms": (3_000, 0), "random": (5_000, 20), "sha256": (5_000, 4),
        "data_get": (5_000, 1), "storage_get": (5_000, 1), "storage_put": (10_000, 10),
    }  # fmt: skip


def test_the_policy_counts_log_lines_and_the_host_bounds_their_bytes(sandbox: Sandbox) -> None:
    line = "(call $log (i32.const 65536) (i32.const 2048))"
    code = module(f"{line * 3} {returning(output())}", imports=LOG)
    job = job_for(sandbox.load(code))
    outcome = sandbox.evaluate(job)
    assert [len(kept) for kept in outcome.log] == [1024] * 3
    fewer = msgspec.structs.replace(POLICY, max_log_lines=2)
    assert (
        sandbox.evaluate(msgspec.structs.replace(job, policy=fewer)).outcome_class
        is OutcomeClass.HOST_LIMIT
    )
    many = module(f"{line * 100} {returning(output())}", imports=LOG)
    more = msgspec.structs.replace(POLICY, max_log_lines=100)
    outcome = sandbox.evaluate(job_for(sandbox.load(many), policy=more))
    assert sum(len(kept) for kept in outcome.log[:-1]) == MAX_LOG_BYTES
    assert outcome.log[-1] == "(36 more lines)"


def test_a_policy_without_the_name_closes_the_function(sandbox: Sandbox) -> None:
    closed = msgspec.structs.replace(POLICY, host_functions=())
    outcome = sandbox.evaluate(job_for(sandbox.load(module(imports=LOG)), policy=closed))
    assert outcome.outcome_class is OutcomeClass.INVALID_MODULE


def test_lines_are_never_another_evaluations(sandbox: Sandbox) -> None:
    line = "(call $log (i32.const 18) (i32.const 5))"
    loud = module(f"{line * 2} {returning(output())}", imports=LOG)
    assert sandbox.evaluate(job_for(sandbox.load(loud))).log == ("score", "score")
    for quiet in (module(), b"refused"):
        assert sandbox.evaluate(job_for(sandbox.load(quiet))).log == ()


def test_a_start_section_may_call_the_host(sandbox: Sandbox) -> None:
    code = module(imports=LOG, more="(func $b (call $log (i32.const 18) (i32.const 5))) (start $b)")
    assert sandbox.evaluate(job_for(sandbox.load(code))).log == ("score",)
