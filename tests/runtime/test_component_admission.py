"""Which components are refused: every rule with its figure, and no bytes that break the reader."""

from __future__ import annotations

import random

import pytest

from runtime import component_admission as rules
from runtime.component_admission import (
    CONTEST,
    HEADER,
    MODULE_HEADER,
    check_component_policy,
    is_component,
    summarise_component,
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


def code(*bodies: bytes) -> bytes:
    sized = b"".join(number(len(body)) + body for body in bodies)
    return section(10, number(len(bodies)) + sized)


def locals_of(count: int, rest: bytes = b"\x0b") -> bytes:
    return b"\x01" + number(count) + b"\x7f" + rest


def export(name: bytes, sort: int = 1, ascribed: int = 0) -> bytes:
    return section(11, b"\x01\x00" + number(len(name)) + name + bytes((sort, 0, ascribed)))


MANY = rules.MAX_FUNCTIONS // 2 + 1
HEAVY = rules.MAX_WEIGHT // rules.MAX_BODY_BYTES // (rules.MAX_LOCALS + 8) + 1
LOOPS = b"\x03\x40" * 20_000
REFUSALS = [
    ("component_bytes", HEADER + bytes(rules.MAX_COMPONENT_BYTES), "33554440", "33554432"),
    ("magic", b"\0asm\x01\0\0\0", "0061736d01000000", "0061736d0d000100"),
    ("malformed", HEADER + b"\x07\x05", "5 bytes at 10", "a WebAssembly component"),
    ("malformed", HEADER + section(1, b"\0asm\x02\0\0\0"), "another version", "component"),
    ("malformed", HEADER + section(4, MODULE_HEADER), "another version", "component"),
    ("sections", HEADER + section(7, b"\0") * 2_049, "2049", "2048"),
    ("section", HEADER + section(12, b""), "12", "0 to 11"),
    ("start", HEADER + section(9, b""), "a start function", "none"),
    ("imports", HEADER + section(10, b"\x01\x00\x01x\x01\x00"), "1", "0"),
    ("components", HEADER + section(4, HEADER + section(1, b"")), "section 1", "types only"),
    ("modules", HEADER + section(1, MODULE_HEADER) * 129, "129", "128"),
    ("memories", with_module(section(5, b"\x02\x00\x01\x00\x01")), "2", "1"),
    ("memory_pages", with_module(section(5, b"\x01\x00" + number(1025))), "1025", "1024"),
    ("table_type", with_module(section(4, b"\x01\x6f\x00\x01")), "0x6f", "0x70, funcref"),
    ("table_elements", with_module(section(4, b"\x01\x70\x00" + number(20_001))), "20001", "20000"),
    ("globals", with_module(section(6, number(2_001))), "2001", "2000"),
    (
        "functions",
        with_module(code(*[b"\0\x0b"] * MANY)) * 1
        + section(1, MODULE_HEADER + code(*[b"\0\x0b"] * MANY)),
        "30002",
        "30000",
    ),
    ("body_bytes", with_module(code(bytes(rules.MAX_BODY_BYTES + 1))), "1048577", "1048576"),
    ("locals", with_module(code(locals_of(501))), "501", "500"),
    (
        "weight",
        with_module(code(*[locals_of(500, bytes(rules.MAX_BODY_BYTES - 4))] * HEAVY)),
        "",
        "250000000",
    ),
    ("loop_weight", with_module(code(locals_of(400, LOOPS))), "12000000", "3000000"),
    ("export", HEADER, "nothing", "evaluate, or answer, load, questions, score"),
    ("export", HEADER + export(b"run"), "run", "evaluate, or"),
    ("export_kind", HEADER + export(b"evaluate", sort=3), "of kind 3", "functions"),
    ("export_type", HEADER + export(b"evaluate", ascribed=1), "ascribed", "a plain export"),
]


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
