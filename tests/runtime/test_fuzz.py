"""Mutated modules end in a typed way: refused, an outcome, or (never here) a fault of ours."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.admission import HEADER, summarise
from runtime.errors import AdmissionError, Fault, FaultReason
from runtime.outcome import OutcomeClass, OutputError, parse_output
from runtime.sandbox import Sandbox
from tests.runtime.modules import LOG, POLICY, SHA256, job_for, module, output, returning

SEEDS = (
    module(),
    module(
        f"(call $log (i32.const 0) (i32.const 9)) (drop (memory.grow (i32.const 3))) "
        f"(call $sha256 (local.get $ptr) (local.get $len) (i32.const 64)) {returning(output())}",
        imports=LOG + SHA256,
        more="(table 3 funcref) (elem (i32.const 0) $evaluate) (global (mut i32) (i32.const 5))"
        "(func $boot (local i64 f64) (drop (f64.div (local.get 1) (local.get 1)))) (start $boot)",
    ),
)
SMALL = msgspec.structs.replace(POLICY, fuel=100_000)
ACTIONS = st.sampled_from(["set", "insert", "delete"])
edits = st.lists(
    st.tuples(st.integers(8, 700), ACTIONS, st.integers(0, 255)), min_size=1, max_size=6
)


def mutate(code: bytes, changes: list[tuple[int, str, int]]) -> bytes:
    data = bytearray(code)
    for place, action, value in changes:
        at = 8 + (place - 8) % (len(data) - 8)
        if action == "set":
            data[at] = value
        elif action == "insert":
            data.insert(at, value)
        elif len(data) > 9:
            del data[at]
    return bytes(data)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(seed=st.sampled_from(SEEDS), changes=edits)
def test_mutated_modules_end_in_a_typed_way(
    sandbox: Sandbox, seed: bytes, changes: list[tuple[int, str, int]]
) -> None:
    code = mutate(seed, changes)
    try:
        summarise(code)
        refused = False
    except AdmissionError:
        refused = True
    job = job_for(sandbox.load(code), policy=SMALL)
    outcome = sandbox.evaluate(job)
    assert sandbox.evaluate(job) == outcome
    if refused:
        assert outcome.outcome_class in {
            OutcomeClass.INVALID_MODULE,
            OutcomeClass.MISSING_EXPORT,
            OutcomeClass.MEMORY_LIMIT,
        }


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_admitted_or_refused(data: bytes) -> None:
    for code in (data, HEADER + data):
        with contextlib.suppress(AdmissionError):
            summarise(code)


@settings(max_examples=300)
@given(st.binary(max_size=100), st.integers(0, 60))
def test_any_bytes_are_an_output_or_not(data: bytes, keep: int) -> None:
    for candidate in (data, output(message="m", a=1)[:keep] + data):
        with contextlib.suppress(OutputError):
            parse_output(candidate)


@settings(max_examples=100)
@given(st.binary(max_size=100))
def test_any_params_are_a_map_or_a_bad_job(sandbox: Sandbox, params: bytes) -> None:
    job = job_for(sandbox.load(SEEDS[0]), params=params)
    try:
        is_map = isinstance(msgspec.msgpack.decode(params), dict)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        is_map = False
    if is_map:
        assert sandbox.evaluate(job).outcome_class is OutcomeClass.OK
    else:
        with pytest.raises(Fault) as caught:
            sandbox.evaluate(job)
        assert caught.value.reason is FaultReason.BAD_JOB
