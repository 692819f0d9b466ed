"""Challenge folders whose module is written in WebAssembly text: no compiler is run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgpack
import wasmtime

from challenges.compile_c import TOOLCHAIN
from challenges.project import Project, pin
from challenges.scaffold import new_project

ALLOC = '(func (export "alloc") (param i32) (result i32) i32.const 4096)'
MEMORY = '(memory (export "memory") 1)'


def wat_project(parent: Path, wat: str, name: str = "written") -> Project:
    """Return a scaffold whose pinned module is this text's."""
    project = new_project(parent, name, "c")
    module = bytes(wasmtime.wat2wasm(wat))
    project.module_path.write_bytes(module)
    return pin(project, TOOLCHAIN, hashlib.sha256(module).hexdigest())


def answering(output: bytes, size: int | None = None) -> str:
    """Return a module that answers every input with `output`, `size` bytes of it."""
    data = "".join(f"\\{byte:02x}" for byte in output)
    packed = (len(output) if size is None else size) << 32
    return f"""(module {MEMORY} {ALLOC} (data (i32.const 0) "{data}")
        (func (export "evaluate") (param i32 i32) (result i64) i64.const {packed}))"""


def answer(score: object = 0, **changes: object) -> bytes:
    """Return an encoded output."""
    whole = {"score": score, "valid": True, "message": "", "metrics": {}} | changes
    return bytes(msgpack.packb(whole))


GOOD = answering(answer(5))
