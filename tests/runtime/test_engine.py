"""The engine: what it refuses, its identity, and determinism it is configured for."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime
import wasmtime.component
from wasmtime import _ffi as ffi

from runtime import engine

ROOT = Path(__file__).parents[2]


def test_the_engine_id_is_what_the_docstring_says() -> None:
    library = hashlib.sha256(Path(ffi.filename).read_bytes()).digest()
    text = engine.CONFIG_TEXT.encode()
    preimage = b"platform/engine/v1\0" + library + len(text).to_bytes(4, "big") + text
    assert engine.engine_id() == hashlib.sha256(preimage + b"\0\0\0\x02").digest()


def test_every_raw_option_exists_in_this_wasmtime() -> None:
    for name, _ in engine.RAW_OPTIONS:
        assert callable(getattr(ffi, f"wasmtime_config_{name}_set"))
        assert not hasattr(wasmtime.Config, name)


@pytest.mark.parametrize(
    "wat",
    [
        "(module (memory i64 1))",
        "(module (memory 1) (memory 1))",
        "(module (memory 1 1 shared))",
        "(module (func (param v128)))",
        "(module (func $f return_call $f))",
        "(module (tag))",
        "(module (table 1 externref))",
        "(module (type (struct)))",
        "(module (memory 1 (pagesize 1)))",
        "(component)",
    ],
)
def test_what_is_switched_off_does_not_compile(wat: str) -> None:
    with pytest.raises(wasmtime.WasmtimeError):
        wasmtime.Module(engine.new_engine(), bytes(wasmtime.wat2wasm(wat)))


def test_nan_has_one_bit_pattern() -> None:
    made = engine.new_engine()
    store = wasmtime.Store(made)
    store.set_fuel(1_000)
    store.set_epoch_deadline(1)
    wat = """(module (func (export "f") (param f64) (result i64)
        (i64.reinterpret_f64 (f64.div (local.get 0) (f64.const 0)))))"""
    exports = wasmtime.Instance(store, wasmtime.Module(made, wat), []).exports(store)
    assert exports["f"](store, 0.0) == 0x7FF8_0000_0000_0000


def test_host_limits_that_change_memory_grow_are_refused() -> None:
    assert engine.host_limits_error() is None
    script = (
        "import resource; from runtime.engine import host_limits_error as f;"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 34, -1)); print(f())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "RLIMIT_DATA" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_the_engine_id_covers_the_component_profile() -> None:
    lines = engine.CONFIG_TEXT.splitlines()
    assert "wasm_component_model=False" in lines
    assert "component.wasm_component_model=True" in lines
    assert "component.memory_init_cow=True" in lines


def test_the_component_profile_refuses_what_the_core_profile_refuses() -> None:
    made = engine.new_component_engine()
    wasmtime.component.Component(made, bytes(wasmtime.wat2wasm("(component)")))
    for wat in ("(memory i64 1)", "(func (param v128))", "(tag)", "(type (struct))"):
        code = bytes(wasmtime.wat2wasm(f"(component (core module {wat}))"))
        with pytest.raises(wasmtime.WasmtimeError):
            wasmtime.component.Component(made, code)
