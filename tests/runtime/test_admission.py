"""Each admission rule refuses, by name, with figure and limit."""

from __future__ import annotations

import time

import msgspec
import pytest

from runtime.admission import HEADER, MAX_LOCALS, admit, summarise
from runtime.errors import AdmissionError
from tests.runtime.modules import ALLOC, LOG, MEMORY, POLICY, SHA256, compiled, module


def many(item: str, count: int) -> str:
    return " ".join([item] * count)


def wide(params: int, results: int) -> bytes:
    return module(
        more=f"(func (param {many('i32', params)}) (result {many('i32', results)}) unreachable)"
    )


BIG_BODY = module(more=f"(func {many('nop', 131_072)})")
HEAVY = module(more=many(f"(func (local {many('i64', 490)}) {many('nop', 20_000)})", 6))
NESTED = module(more=f"(func (local {many('i64', 490)}) {many('(loop', 2_500)} {')' * 2_500})")
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


def test_exports_are_limited() -> None:
    more = " ".join(f'(export "f{n}" (func $evaluate))' for n in range(1_000))
    with pytest.raises(AdmissionError, match="exports: found 1003"):
        admit(module(more=more), POLICY)


def test_the_edges_are_admitted() -> None:
    code = module(
        memory='(memory (export "memory") 16 65536)',
        more=f"(table 10000 funcref) (func (local {many('i32', MAX_LOCALS)}))",
    )
    assert admit(code, POLICY).memory_pages == 16


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
