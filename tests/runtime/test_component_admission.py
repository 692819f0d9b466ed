"""Which components are refused: every rule with its figure, and no bytes that break the reader."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import component_rules as rules
from runtime.admission_rules import Rule
from runtime.component_admission import (
    check_component_policy,
    is_component,
    summarise_component,
)
from runtime.component_rules import (
    CONTEST,
    HEADER,
    MODULE_HEADER,
    NEED_ENGINE,
    ComponentRule,
)
from runtime.errors import AdmissionError
from tests.runtime.components import CONTEST as CONTEST_NAMES
from tests.runtime.components import assembled, component
from tests.runtime.modules import POLICY, module


def number(value: int) -> bytes:
    """LEB128."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def section(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + number(len(body)) + body


def with_module(*sections: bytes) -> bytes:
    """A component of one core module with these sections."""
    return HEADER + section(1, MODULE_HEADER + b"".join(sections))


def vector(*parts: bytes) -> bytes:
    return number(len(parts)) + b"".join(parts)


def code(*bodies: bytes, params: int = 0) -> bytes:
    """The sections of functions with these bodies, all of one type."""
    kind = b"\x60" + vector(*[b"\x7e"] * params) + b"\0"
    sized = [number(len(body)) + body for body in bodies]
    types = section(1, vector(kind)) + section(3, vector(*[b"\0"] * len(bodies)))
    return types + section(10, vector(*sized))


def globals_of(value: bytes) -> bytes:
    return with_module(section(6, b"\x01\x7f\x00" + value))


def locals_of(count: int, rest: bytes = b"\x0b") -> bytes:
    return b"\x01" + number(count) + b"\x7f" + rest


def export(name: bytes, sort: int = 1, ascribed: int = 0) -> bytes:
    return section(11, b"\x01\x00" + number(len(name)) + name + bytes((sort, 0, ascribed)))


LOOPS = b"\x03\x40" * 20_000
MANY = rules.MAX_FUNCTIONS // 2 + 1
BIG = bytes(rules.MAX_BODY_BYTES)
HEAVY = locals_of(500, bytes(rules.MAX_BODY_BYTES - 4))
BRANCHES = b"\0" + b"\x0d\x00" * 30_000
ZERO = b"\x41\x00\x0b"
EMPTY_DATA = b"\x00" + ZERO + b"\x00"
MODULE = section(1, MODULE_HEADER)
ONCE = section(2, b"\x01\x00\x00\x00")
REFUSALS = [
    ("component_bytes", HEADER + bytes(rules.MAX_COMPONENT_BYTES), "33554440", "33554432"),
    ("magic", b"\0asm\x01\0\0\0", "0061736d01000000", "0061736d0d000100"),
    ("malformed", HEADER + b"\x07\x05", "5 bytes at 10", "a WebAssembly component"),
    ("malformed", HEADER + section(1, b"\0asm\x02\0\0\0"), "another version", "component"),
    ("malformed", HEADER + section(4, MODULE_HEADER), "another version", "component"),
    ("malformed", with_module(section(7, b"\0"), section(7, b"\0")), "7 appears twice", ""),
    ("malformed", with_module(section(3, b"\x01\x00")), "type 0 of 0", ""),
    ("malformed", with_module(section(10, b"\x01")), "1 bodies for 0 functions", ""),
    ("malformed", with_module(section(9, b"\x01\x08")), "with flags 0x8", ""),
    ("malformed", with_module(section(11, b"\x01\x03")), "with flags 0x3", ""),
    ("malformed", globals_of(b"\x41" + b"\x80" * 12), "too long", ""),
    ("malformed", HEADER + ONCE, "module 0 of 0", ""),
    ("malformed", HEADER + section(2, b"\x01\x02\x00"), "of form 2", ""),
    ("sections", HEADER + section(7, b"\0") * 2_049, "2049", "2048"),
    ("section", HEADER + section(12, b""), "12", "0 to 11"),
    ("section", with_module(section(13, b"")), "13", "0 to 12"),
    ("definitions", HEADER + section(6, number(4_001)), "4001", "4000"),
    ("type_bytes", HEADER + section(7, bytes(8_193)), "8193", "8192"),
    ("type_bytes", HEADER + section(4, HEADER + section(0, bytes(9_000))), "9011", "8192"),
    ("start", HEADER + section(9, b""), "a start function", "none"),
    ("imports", HEADER + section(10, b"\x01\x00\x01x\x01\x00"), "1", "0"),
    ("imports", with_module(section(2, number(5_001))), "5001", "5000"),
    ("import_kind", with_module(section(2, b"\x01\x01a\x01b\x04\0\0")), "a.b: 4", "0 to 3"),
    ("components", HEADER + section(4, HEADER + section(1, b"")), "section 1", "types only"),
    ("modules", HEADER + MODULE * 129, "129", "128"),
    ("instances", HEADER + MODULE + ONCE + ONCE, "module 0 twice", "once"),
    ("types", with_module(section(1, number(3_001))), "3001", "3000"),
    ("type_form", with_module(section(1, b"\x01\x5f")), "0x5f", "0x60"),
    ("params", with_module(code(params=33)), "33", "32"),
    ("results", with_module(section(1, vector(b"\x60\0\x09" + b"\x7f" * 9))), "9", "8"),
    ("tables", with_module(section(4, b"\x11")), "17", "16"),
    ("table_type", with_module(section(4, b"\x01\x6f\x00\x01")), "0x6f", "0x70, funcref"),
    ("table_elements", with_module(section(4, b"\x01\x70\x00" + number(10_001))), "10001", "10000"),
    ("memories", with_module(section(5, b"\x02\x00\x01\x00\x01")), "2", "1"),
    ("memory_pages", with_module(section(5, b"\x01\x00" + number(1025))), "1025", "1024"),
    ("globals", with_module(section(6, number(2_001))), "2001", "2000"),
    ("initial_value", globals_of(b"\x10\x00\x0b"), "0x10", "constant instructions"),
    ("initial_value", globals_of(b"\x41\x00" * 7 + b"\x0b"), "more than 6", "6"),
    ("exports", with_module(section(7, number(10_001))), "10001", "10000"),
    ("element_segments", with_module(section(9, number(65))), "65", "64"),
    ("elements", with_module(section(9, b"\x01\x00" + ZERO + number(12_001))), "12001", "12000"),
    ("data_segments", with_module(section(11, number(4_001))), "4001", "4000"),
    (
        "functions",
        with_module(code(*[b"\0\x0b"] * MANY)) * 1
        + section(1, MODULE_HEADER + code(*[b"\0\x0b"] * MANY)),
        "30002",
        "30000",
    ),
    ("body_bytes", with_module(code(BIG + b"\0")), "1048577", "1048576"),
    ("code_bytes", with_module(code(*[BIG] * 14)), "14680064", "13631488"),
    ("locals", with_module(code(locals_of(501))), "501", "500"),
    ("locals", with_module(code(locals_of(470), params=31)), "501", "500"),
    ("weight", with_module(code(HEAVY)), "532676608", "250000000"),
    ("loop_weight", with_module(code(locals_of(400, LOOPS))), "12000000", "3000000"),
    ("loop_weight", with_module(code(b"\0" + LOOPS, params=31)), "4620000", "3000000"),
    ("branch_weight", with_module(code(BRANCHES)), "1830000", "1500000"),
    ("calls", with_module(code(b"\0" + b"\x10\x00" * 260_001)), "260001", "260000"),
    ("floats", with_module(code(b"\0" + b"\x9f" * 340_001)), "340001", "340000"),
    ("export", HEADER, "nothing", "evaluate, or answer, load, questions, score"),
    ("export", HEADER + export(b"run"), "run", "evaluate, or"),
    ("export_kind", HEADER + export(b"evaluate", sort=3), "of kind 3", "functions"),
    ("export_type", HEADER + export(b"evaluate", ascribed=1), "ascribed", "a plain export"),
]
BOMB = (
    with_module(section(5, b"\x01\x00\x01"), section(11, vector(*[EMPTY_DATA] * 99_999)))
    + ONCE
    + export(b"evaluate")
)
WITHOUT_ENGINE = """
import sys
sys.modules["wasmtime.component"] = None  # importing it raises ImportError
from runtime.component_admission import summarise_component
from runtime.errors import AdmissionError
import wasmtime
def never(*_):
    raise SystemExit("an engine was made")
wasmtime.Engine.__init__ = never
try:
    summarise_component(sys.stdin.buffer.read())
except AdmissionError as error:
    print(error.rule, error.found, error.limit)
"""


@pytest.mark.parametrize(
    ("rule", "code", "found", "limit"),
    [pytest.param(*entry, id=f"{n}-{entry[0]}") for n, entry in enumerate(REFUSALS)],
)
def test_each_refusal_names_rule_figure_and_limit(
    rule: str, code: bytes, found: str, limit: str
) -> None:
    with pytest.raises(AdmissionError) as caught:
        summarise_component(code)
    assert caught.value.rule == rule
    assert found in str(caught.value.found)
    assert limit in str(caught.value.limit)


def test_every_rule_that_needs_no_engine_is_broken_above() -> None:
    assert {entry[0] for entry in REFUSALS} == set(ComponentRule) - NEED_ENGINE


def test_both_profiles_call_the_same_thing_by_the_same_name() -> None:
    only_here = {
        *("component_bytes", "sections", "definitions", "type_bytes", "components", "modules"),
        *("instances", "code_bytes", "calls", "floats", "export_kind"),
    }
    assert set(ComponentRule) - set(Rule) == only_here


def test_a_bomb_of_segments_is_refused_without_an_engine() -> None:
    # 0.1 to 0.4 ms each to compile where their places are not constant
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ENGINE],
        cwd=Path(__file__).parents[2],
        input=BOMB,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [b"data_segments", b"99999", b"4000"]


def test_sums_go_over_all_modules() -> None:
    half = section(11, vector(*[EMPTY_DATA] * 2_001))
    memory = section(5, b"\x01\x00\x01")
    with pytest.raises(AdmissionError) as caught:
        summarise_component(with_module(memory, half) + section(1, MODULE_HEADER + half))
    assert (caught.value.rule, caught.value.found) == ("data_segments", 4_002)


def test_an_offset_may_be_a_base_and_a_number() -> None:
    core = (
        '(import "env" "base" (global $base i32))'
        '(data (offset (i32.add (global.get $base) (i32.const 4))) "x")'
    )
    placed = assembled(f"(module {core} (memory 1))")
    summarise_component(HEADER + section(1, placed) + export(b"evaluate"))


def test_what_is_admissible_is_summed_up() -> None:
    single, contest = component(), component(names=CONTEST_NAMES, pages=3)
    assert summarise_component(single).exports == ("evaluate",)
    assert not summarise_component(single).is_contest
    summary = summarise_component(contest)
    assert (summary.exports, summary.is_contest) == (CONTEST, True)
    assert (summary.modules, summary.functions, summary.memory_pages) == (1, 5, 3)


def test_an_exported_instance_and_an_inner_component_of_types_pass() -> None:
    shim = '(component $shim (type $t (func)) (export "t" (type $t)))'
    extra = f'{shim} (instance $made (instantiate $shim)) (export "exports" (instance $made))'
    assert summarise_component(component(more=extra)).exports == ("evaluate",)


def test_the_profile_is_told_by_the_first_bytes() -> None:
    assert is_component(component())
    assert not is_component(module())
    assert not is_component(b"\0asm")
    assert is_component(assembled("(component)"))


def test_the_policy_bounds_the_memory() -> None:
    summary = summarise_component(component(pages=17))
    with pytest.raises(AdmissionError) as caught:
        check_component_policy(summary, POLICY)
    assert (caught.value.rule, caught.value.found, caught.value.limit) == ("memory_pages", 17, 16)
    check_component_policy(summarise_component(component(pages=16)), POLICY)


def test_damaged_components_are_refused_or_summed_up() -> None:
    chance = random.Random(7)
    whole = component(names=CONTEST_NAMES)
    refused = 0
    for _ in range(3_000):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(8, len(damaged))
            damaged[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        try:
            summarise_component(bytes(damaged))
        except AdmissionError:
            refused += 1
    assert refused > 500
