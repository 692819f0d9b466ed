"""A challenge's module under plain wasmtime: no fuel, no epochs, no limits, default code.

This is the yardstick of ``challenge bench``: what the same module costs an embedder who trusts it.
It runs only what the sandbox has just run to the end, and never decides anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import wasmtime

from protocol.records.challenge import EvaluationContext
from runtime.host_functions import NAMESPACE, RANDOM_TAG, SIGNATURES
from runtime.wasm_reader import I32, I64

_MASK32 = 0xFFFF_FFFF
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF


class UnmeteredHost:
    """One compiled module; every `evaluate` is a fresh instance."""

    def __init__(self, module: bytes) -> None:
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module(self._engine, module)
        self._linker = wasmtime.Linker(self._engine)
        self._context = EvaluationContext(epoch=0, height=0, time_ms=0, seed=bytes(32))
        self._random_at = 0
        kinds = {I32: wasmtime.ValType.i32(), I64: wasmtime.ValType.i64()}
        bodies: dict[str, Callable[..., object]] = {
            "log": self._log,
            "time_ms": self._time_ms,
            "random": self._random,
            "sha256": self._sha256,
            "data_get": _nothing_stored,
            "storage_get": _nothing_stored,
            "storage_put": _forget,
        }
        for name, (params, results) in SIGNATURES.items():
            kind = wasmtime.FuncType([kinds[p] for p in params], [kinds[r] for r in results])
            self._linker.define_func(NAMESPACE, name, kind, bodies[name], access_caller=True)

    def evaluate(self, data: bytes, context: EvaluationContext) -> bytes:
        """Return the module's output for an encoded input."""
        self._context, self._random_at = context, 0
        store = wasmtime.Store(self._engine)
        exports = self._linker.instantiate(store, self._module).exports(store)
        memory, alloc, run = exports["memory"], exports["alloc"], exports["evaluate"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(alloc, wasmtime.Func)
        assert isinstance(run, wasmtime.Func)
        pointer = alloc(store, len(data)) & _MASK32
        memory.write(store, data, pointer)
        packed = run(store, pointer, len(data)) & _MASK64
        start = packed & _MASK32
        return bytes(memory.read(store, start, start + (packed >> 32)))

    def _log(self, _caller: wasmtime.Caller, _pointer: int, _size: int) -> None:
        """Nobody listens."""

    def _time_ms(self, _caller: wasmtime.Caller) -> int:
        return self._context.time_ms

    def _random(self, caller: wasmtime.Caller, pointer: int, size: int) -> None:
        start, end = self._random_at, self._random_at + (size & _MASK32)
        self._random_at = end
        blocks = b"".join(
            hashlib.sha256(RANDOM_TAG + self._context.seed + block.to_bytes(8, "big")).digest()
            for block in range(start // 32, -(-end // 32))
        )
        skipped = start // 32 * 32
        data = blocks[start - skipped : end - skipped]
        _memory(caller).write(caller, data, pointer & _MASK32)

    def _sha256(self, caller: wasmtime.Caller, pointer: int, size: int, out: int) -> None:
        start = pointer & _MASK32
        data = bytes(_memory(caller).read(caller, start, start + (size & _MASK32)))
        _memory(caller).write(caller, hashlib.sha256(data).digest(), out & _MASK32)


def _nothing_stored(*_: object) -> int:
    """Answer as the sandbox does to a job without data blobs and with an empty storage."""
    return -1


def _forget(*_: object) -> None:
    """Keep nothing: writes are no part of the output that is compared."""


def _memory(caller: wasmtime.Caller) -> wasmtime.Memory:
    found = caller["memory"]
    assert isinstance(found, wasmtime.Memory)
    return found
