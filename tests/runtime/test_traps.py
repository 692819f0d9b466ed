"""Every trap the engine knows: which class it comes to, or why no guest can cause it."""

from __future__ import annotations

import msgspec
import pytest
import wasmtime

from runtime.errors import Fault, FaultReason
from runtime.guest import Trapped
from runtime.outcome import OutcomeClass
from runtime.sandbox import Sandbox
from tests.runtime.modules import LOOP, POLICY, job_for, module

TABLE = "(table 2 funcref) (type $none (func))"
CODES = wasmtime.TrapCode

PROVOKED: dict[wasmtime.TrapCode, bytes] = {
    CODES.STACK_OVERFLOW: module("(call $evaluate (local.get 0) (local.get 1))"),
    CODES.MEMORY_OUT_OF_BOUNDS: module("(i64.load (i32.const -8))"),
    CODES.TABLE_OUT_OF_BOUNDS: module(
        "(call_indirect (type $none) (i32.const 2)) (i64.const 0)", more=TABLE
    ),
    CODES.INDIRECT_CALL_TO_NULL: module(
        "(call_indirect (type $none) (i32.const 0)) (i64.const 0)", more=TABLE
    ),
    CODES.BAD_SIGNATURE: module(
        "(call_indirect (type $none) (i32.const 0)) (i64.const 0)",
        more=TABLE + "(elem (i32.const 0) $evaluate)",
    ),
    CODES.INTEGER_OVERFLOW: module("(i64.div_s (i64.const -9223372036854775808) (i64.const -1))"),
    CODES.INTEGER_DIVISION_BY_ZERO: module("(i64.rem_u (i64.const 1) (i64.const 0))"),
    CODES.BAD_CONVERSION_TO_INTEGER: module("(i64.trunc_f64_s (f64.const nan))"),
    CODES.UNREACHABLE: module("unreachable"),
    CODES.OUT_OF_FUEL: module(LOOP),
}
IMPOSSIBLE = {
    CODES.HEAP_MISALIGNED: "atomic instructions belong to the threads proposal, which is off",
    CODES.INTERRUPT: "the epoch deadline: a fault, see below",
}


def test_the_table_names_every_trap_code_of_core_webassembly() -> None:
    # the codes that follow belong to proposals which are off: atomics, references to collected
    # objects, exceptions, continuations, components
    core = {code for code in CODES if code.value <= CODES.OUT_OF_FUEL.value}
    assert {*PROVOKED, *IMPOSSIBLE} == core


def test_a_code_nobody_can_cause_would_be_a_trap_like_any_other(sandbox: Sandbox) -> None:
    sandbox._host.reset()
    for code in {None, *(one.value for one in CODES if one not in {*PROVOKED, CODES.INTERRUPT})}:
        ending = sandbox._trap_ending(Trapped(code), POLICY)
        assert (ending.outcome_class, ending.fuel_used) == (OutcomeClass.TRAP, POLICY.fuel)


@pytest.mark.parametrize("code", PROVOKED, ids=lambda code: code.name.lower())
def test_each_trap_has_its_class(sandbox: Sandbox, code: wasmtime.TrapCode) -> None:
    outcome = sandbox.evaluate(job_for(sandbox.load(PROVOKED[code])))
    expected = OutcomeClass.OUT_OF_FUEL if code is CODES.OUT_OF_FUEL else OutcomeClass.TRAP
    assert outcome.outcome_class is expected
    assert outcome.fuel_used == POLICY.fuel
    assert outcome.message.replace(" ", "_") == code.name.lower()


def test_an_interrupt_is_a_fault(sandbox: Sandbox) -> None:
    endless = msgspec.structs.replace(POLICY, fuel=2**62)
    job = job_for(sandbox.load(module(LOOP)), policy=endless, deadline_ms=60)
    with pytest.raises(Fault) as caught:
        sandbox.evaluate(job)
    assert caught.value.reason is FaultReason.DEADLINE
