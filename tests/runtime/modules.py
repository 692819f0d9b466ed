"""Small guests as WAT text, and jobs that run them."""

from __future__ import annotations

import functools
from typing import Any

import msgpack
import wasmtime

from protocol.records.challenge import EvaluationContext, RuntimePolicy
from runtime.job import EvaluationJob

POLICY = RuntimePolicy(
    fuel=10_000_000,
    memory_pages=16,
    max_input_bytes=65_536,
    max_output_bytes=512,
    max_log_lines=3,
    host_functions=("log", "random", "sha256", "time_ms"),
)
WORLD = EvaluationContext(epoch=7, height=1_000, time_ms=1_700_000_000_000, seed=bytes(range(32)))
PARAMS = msgpack.packb({"rounds": 3})

LOG = '(import "platform" "log" (func $log (param i32 i32)))'
TIME_MS = '(import "platform" "time_ms" (func $time_ms (result i64)))'
RANDOM = '(import "platform" "random" (func $random (param i32 i32)))'
SHA256 = '(import "platform" "sha256" (func $sha256 (param i32 i32 i32)))'
ALLOC = '(func (export "alloc") (param i32) (result i32) i32.const 4096)'
MEMORY = '(memory (export "memory") 2)'


def output(score: int = 500_000, valid: bool = True, message: str = "ok", **metrics: int) -> bytes:
    return msgpack.packb({"score": score, "valid": valid, "message": message, "metrics": metrics})


def text(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def returning(data: bytes, *, at: int = 16) -> str:
    """The body of an `evaluate` that returns `data`, and the segment it lies in."""
    return f"(i64.or (i64.shl (i64.const {len(data)}) (i64.const 32)) (i64.const {at}))"


@functools.cache
def compiled(wat: str) -> bytes:
    return bytes(wasmtime.wat2wasm(wat))


def module(
    evaluate: str | None = None,
    *,
    data: bytes = b"",
    imports: str = "",
    memory: str = MEMORY,
    alloc: str = ALLOC,
    more: str = "",
) -> bytes:
    """A guest with the usual exports; `evaluate` is the body's text, `data` lies at 16."""
    data = data or output()
    body = returning(data) if evaluate is None else evaluate
    return compiled(
        f"""(module {imports} {memory} (data (i32.const 16) "{text(data)}") {alloc}
        (func $evaluate (export "evaluate") (param $ptr i32) (param $len i32) (result i64) {body})
        {more})"""
    )


def echo_input() -> bytes:
    """A guest that logs its whole input as one line."""
    body = f"(call $log (local.get $ptr) (local.get $len)) {returning(output())}"
    return module(body, imports=LOG)


LOOP = "(loop (br 0)) (i64.const 0)"


def job_for(module_hash: bytes, **changes: Any) -> EvaluationJob:
    values: dict[str, Any] = {
        "job_id": 1,
        "module_hash": module_hash,
        "policy": POLICY,
        "challenge_id": "tiny",
        "version": 2,
        "params": PARAMS,
        "miner": b"\x11" * 32,
        "submission": b"submission",
        "context": WORLD,
        "deadline_ms": 5_000,
    }
    return EvaluationJob(**(values | changes))
