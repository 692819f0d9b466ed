"""Each admission rule refuses, by name, with figure and limit; a rule without a case here fails."""

from __future__ import annotations

import time

import msgspec
import pytest

from challenges import examples
from runtime.admission import HEADER, MAX_LOCALS, Rule, admit, summarise
from runtime.admission_rules import (
    MAX_DATA_SEGMENTS,
    MAX_ELEMENT_SEGMENTS,
    MAX_ELEMENTS,
    NEED_ENGINE,
)
from runtime.errors import AdmissionError
from runtime.sandbox import Sandbox
from tests.fuzz.modules_mutation import Section, join, leb, split
from tests.runtime.modules import ALLOC, LOG, MEMORY, POLICY, SHA256, compiled, module


def many(item: str, count: int) -> str:
    return " ".join([item] * count)


def many_exports(count: int) -> str:
    return " ".join(f'(export "f{n}" (func $evaluate))' for n in range(count))


def wide(params: int, results: int) -> bytes:
    return module(
        more=f"(func (param {many('i32', params)}) (result {many('i32', results)}) unreachable)"
    )


def with_section(kind: int, body: bytes) -> bytes:
    """A guest with a table and with this section in place of its own one; no names."""
    found: list[Section] = [part for part in split(module(more=TABLE)) if part[0] not in {0, kind}]
    return join(sorted([*found, (kind, body)], key=lambda part: ORDER.index(part[0])))


def segments(count: int, each: bytes) -> bytes:
    return leb(count) + each * count


TABLE = "(table 10000 funcref)"
ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11]
"""Sections as the format wants them: the data count comes before the code."""
GLOBAL, ELEMENT, DATA = 6, 9, 11
AT_0 = b"\x41\x00\x0b"
SUM = b"\x41\x01\x41\x01\x6a\x0b"
EMPTY_DATA = b"\x00" + AT_0 + b"\x00"
REF_FUNC = b"\xd2\x00\x0b"
OVERFULL = b"\x02\x00" + AT_0 + b"\x01\x00\x00" + AT_0 + segments(MAX_ELEMENTS, b"\x00")
EXPRESSIONS = b"\x01\x04" + AT_0 + segments(MAX_ELEMENTS + 1, REF_FUNC)
BIG_BODY = module(more=f"(func {many('nop', 131_072)})")
HEAVY = module(more=many(f"(func (local {many('i64', 490)}) {many('nop', 20_000)})", 6))
NESTED = module(more=f"(func (local {many('i64', 490)}) {many('(loop', 2_500)} {')' * 2_500})")
BRANCHING = module(more=f"(func (param i32) {many('(br_if 0 (local.get 0))', 23_000)})")
DEEP = module(more=f"(func {many('(loop', 12_000)} {')' * 12_000})")

REFUSED: list[tuple[str, bytes, str, int | str]] = [
    ("no bytes", b"", "magic", "nothing"),
    ("WAT", b"(module)", "magic", b"(module)".hex()),
    ("component", b"\x00asm\x0d\x00\x01\x00", "magic", "0061736d0d000100"),
    ("too large", HEADER + bytes(4 * 1024 * 1024), "module_bytes", 4 * 1024 * 1024 + 8),
    ("two memories", module(memory=MEMORY + "(memory 1)"), "memories", 2),
    ("no memory", compiled(f"(module {ALLOC})"), "memories", 0),
    ("pages", module(memory='(memory (export "memory") 1025)'), "memory_pages", 1025),
    ("pages of the policy", module(memory='(memory (export "memory") 17)'), "memory_pages", 17),
    ("64-bit memory", module(memory='(memory (export "memory") i64 1)'), "malformed", ""),
    ("tables", module(more="(table 1 funcref) (table 1 funcref)"), "tables", 2),
    ("table type", module(more="(table 1 externref)"), "table_type", "0x6f"),
    ("table size", module(more="(table 10001 funcref)"), "table_elements", 10_001),
    ("functions", module(more=many("(func)", 20_001)), "functions", 20_003),
    ("types", compiled("(module " + many("(type (func))", 2_001) + ")"), "types", 2_001),
    ("params", wide(33, 1), "params", 33),
    ("results", wide(1, 9), "results", 9),
    ("globals", module(more=many("(global i32 (i32.const 0))", 1_001)), "globals", 1_001),
    ("locals", module(more=f"(func (local {many('i32', 501)}))"), "locals", 501),
    ("body", BIG_BODY, "body_bytes", 131_074),
    ("weight", HEAVY, "weight", ""),
    ("loops", NESTED, "loop_weight", 1_225_000 + 62_500),
    ("deep loops", DEEP, "loop_weight", 1_440_000),
    ("branches", BRANCHING, "branch_weight", ""),
    ("struct type", compiled("(module (type (struct)))"), "type_form", "0x5f"),
    ("tag section", module(more="(tag)"), "section", 13),
    ("imported memory", compiled('(module (import "a" "m" (memory 1)))'), "import_kind", "a.m: 2"),
    ("import", module(imports='(import "env" "f" (func))'), "import", "env.f"),
    ("namespace", module(imports=LOG.replace("platform", "wasi")), "import", "wasi.log"),
    ("import type", module(imports=LOG.replace("i32 i32", "i64")), "import_type", ""),
    ("no evaluate", compiled(f"(module {MEMORY} {ALLOC})"), "export", "no 'evaluate'"),
    ("no alloc", module(alloc=""), "export", "no 'alloc'"),
    ("memory not exported", module(memory="(memory 1)"), "export", "no memory 'memory'"),
    ("export kind", module(alloc='(global (export "alloc") i32 (i32.const 1))'), "export_type", ""),
    ("optional export", module(more='(func (export "validate"))'), "export_type", ""),
    ("exports", module(more=many_exports(1_000)), "exports", 1_003),
    ("imports", module(imports=many(LOG.replace("$log", ""), 1_001)), "imports", 1_001),
    ("data", with_section(DATA, segments(2_001, EMPTY_DATA)), "data_segments", 2_001),
    (
        "segments",
        with_section(ELEMENT, segments(1_001, b"\x01\x00\x00")),
        "element_segments",
        1_001,
    ),
    ("elements", with_section(ELEMENT, OVERFULL), "elements", 20_001),
    ("expressions", with_section(ELEMENT, EXPRESSIONS), "elements", 20_001),
    ("global", with_section(GLOBAL, b"\x01\x7f\x00" + SUM), "initial_value", "then 0x41"),
    ("offset", with_section(DATA, b"\x01\x00" + SUM + b"\x00"), "initial_value", "then 0x41"),
    ("opcode", with_section(GLOBAL, b"\x01\x7f\x00\x10\x00\x0b"), "initial_value", "0x10"),
    ("long value", with_section(GLOBAL, b"\x01\x7f\x00\x41" + b"\x80" * 5), "malformed", ""),
    ("element flags", with_section(ELEMENT, b"\x01\x08"), "malformed", ""),
    ("data flags", with_section(DATA, b"\x01\x03"), "malformed", ""),
    ("section twice", module() + b"\x05\x03\x01\x00\x01", "malformed", ""),
    ("cut", module()[:-1], "malformed", ""),
    ("long number", HEADER + b"\x00\x80\x80\x80\x80\x80\x00", "malformed", ""),
]


@pytest.mark.parametrize(
    ("code", "rule", "found"), [pytest.param(c, r, f, id=n) for n, c, r, f in REFUSED]
)
def test_each_rule_refuses_and_names_the_figure(code: bytes, rule: str, found: int | str) -> None:
    with pytest.raises(AdmissionError) as caught:
        admit(code, POLICY)
    assert caught.value.rule == rule, caught.value
    if found != "":
        assert caught.value.found == found
    assert str(caught.value.limit) in str(caught.value)


def test_an_overlong_block_type_is_still_counted_as_a_loop() -> None:
    plain = module(more="(func (loop (type 0)))(type (func))")
    more = module(more="(func (loop) (loop) (loop))")
    assert summarise(more).loop_weight == summarise(plain).loop_weight == 0
    body = b"\x06\x00\x03\x80\x00\x0b\x0b"  # size, no locals, loop of type 0 in two bytes
    code = module(more="(func (param i32) (nop) (nop) (nop) (nop))")
    at = code.rindex(b"\x06\x00\x01\x01\x01\x01\x0b")
    assert summarise(code[:at] + body + code[at + 7 :]).loop_weight == 1


AFTERWARDS: list[tuple[str, bytes, Rule, str]] = [
    ("no type check", module("(i64.const 0)").replace(b"\x42\x00", b"\x41\x00"), Rule.ENGINE, ""),
    ("a trap at the start", module(more="(func $s unreachable) (start $s)"), Rule.START, ""),
    ("no end at the start", module(more="(func $s (loop (br 0))) (start $s)"), Rule.START, "fuel"),
]


@pytest.mark.parametrize(
    ("code", "rule", "found"), [pytest.param(c, r, f, id=n) for n, c, r, f in AFTERWARDS]
)
def test_what_is_refused_afterwards_is_named_too(
    sandbox: Sandbox, code: bytes, rule: Rule, found: str
) -> None:
    admit(code, POLICY)
    with pytest.raises(AdmissionError) as caught:
        sandbox.check(code, POLICY)
    assert caught.value.rule == rule
    assert found in str(caught.value.found)


def test_every_rule_has_a_case() -> None:
    assert {rule for _, _, rule, _ in REFUSED} == set(Rule) - NEED_ENGINE
    assert {rule for _, _, rule, _ in AFTERWARDS} == NEED_ENGINE


@pytest.mark.parametrize("name", ["series_forecast", "text_compression"])
def test_the_examples_stay_far_from_the_limits(name: str) -> None:
    example = examples.load(name)
    sections = dict(split(example.module))
    assert sections[DATA][0] * 100 < MAX_DATA_SEGMENTS
    found = summarise(example.module)
    assert found.functions < 200
    assert found.memory_pages <= example.spec.policy.memory_pages


def test_the_edges_are_admitted() -> None:
    code = module(
        memory='(memory (export "memory") 16 65536)',
        more=f"(table 10000 funcref) (func (local {many('i32', MAX_LOCALS)}))",
    )
    assert admit(code, POLICY).memory_pages == 16


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (DATA, segments(MAX_DATA_SEGMENTS, EMPTY_DATA)),
        (DATA, b"\x02\x01\x03abc\x02\x00" + AT_0 + b"\x01a"),
        (ELEMENT, segments(MAX_ELEMENT_SEGMENTS, b"\x01\x00\x00")),
        (ELEMENT, b"\x02" + 2 * (b"\x00" + AT_0 + segments(MAX_ELEMENTS // 2, b"\x00"))),
        (ELEMENT, b"\x02" + 2 * (b"\x04" + AT_0 + segments(MAX_ELEMENTS // 2, REF_FUNC))),
        (ELEMENT, b"\x01\x02\x00" + AT_0 + b"\x00\x01\x00"),
        (ELEMENT, b"\x02\x03\x00\x01\x00\x05\x70\x01\xd0\x70\x0b"),
        (GLOBAL, b"\x02\x7c\x00\x44" + bytes(8) + b"\x0b\x7d\x00\x43" + bytes(4) + b"\x0b"),
        (GLOBAL, b"\x02\x7e\x00\x42" + b"\xff" * 9 + b"\x7f\x0b\x70\x00\xd2\x00\x0b"),
    ],
)
def test_what_keeps_the_limits_is_admitted_and_compiles_in_a_second(
    sandbox: Sandbox, kind: int, body: bytes
) -> None:
    began = time.process_time()
    sandbox.check(with_section(kind, body), POLICY)
    assert time.process_time() - began < 10  # 1.2 s on a quiet machine, for the expressions


def test_an_empty_allow_list_allows_nothing() -> None:
    closed = msgspec.structs.replace(POLICY, host_functions=())
    with pytest.raises(AdmissionError, match=r"import: found platform\.sha256.*nothing"):
        admit(module(imports=SHA256), closed)


def test_a_policy_cannot_allow_what_does_not_exist() -> None:
    wider = msgspec.structs.replace(POLICY, host_functions=("fork",))
    with pytest.raises(AdmissionError, match="import"):
        admit(module(imports='(import "platform" "fork" (func))'), wider)


def test_a_large_module_is_checked_quickly() -> None:
    code = module(more=many(f"(func {many('nop', 30)})", 19_000))
    began = time.process_time()
    assert summarise(code).functions == 19_002
    assert time.process_time() - began < 0.5
