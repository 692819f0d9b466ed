r"""What a guest may call: namespace `platform`, deterministic, metered, and closed by default.

Rules:
1. No Python exception crosses into the engine. ctypes would print it and go on as if the host
   function had returned, so every callback ends in a trap instead and the exception is kept in
   `failure` for the sandbox, which turns it into a fault.
2. Fuel comes first: a call costs `COSTS[name]`, taken for the length the guest names, before
   pointers are looked at. Too little left is the trap `out of fuel`, as in guest code. The figures
   are part of the ABI: at 1e9 fuel no guest keeps the host busy for longer than about 3 s.
3. Pointers and lengths are unsigned 32-bit numbers. A region that is not inside the guest's memory
   is the trap `memory out of bounds`, also when it is empty.
4. What a guest sees depends on its input and context alone: `time_ms` is the context's, and
   `random` is the SHA-256 counter stream of the context's seed.
5. `data_get` and `storage_get` return the value's length, and copy the value if it fits into the
   buffer; if not, nothing is copied and the guest may ask again with a larger one.
6. One evaluation at a time; the sandbox holds its lock from `begin` to the end.

`random` stream: block i (0, 1, ...) is sha256(b"platform/random/v1\0" | seed | i as 8 bytes, big
endian); calls take consecutive bytes of block 0 | block 1 | ..., starting at 0 in each evaluation.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import wasmtime

from protocol.records.challenge import EvaluationContext, RuntimePolicy
from protocol.records.challenge_storage import MAX_KEY_BYTES
from runtime import native
from runtime.errors import Fault, FaultReason
from runtime.guest_storage import GuestStorage
from runtime.wasm_reader import I32, I64, FuncType

NAMESPACE = "platform"

SIGNATURES: dict[str, FuncType] = {
    "log": ((I32, I32), ()),
    "time_ms": ((), (I64,)),
    "random": ((I32, I32), ()),
    "sha256": ((I32, I32, I32), ()),
    "data_get": ((I32, I32, I32, I32), (I32,)),
    "storage_get": ((I32, I32, I32, I32), (I32,)),
    "storage_put": ((I32, I32, I32, I32), ()),
}

COSTS: dict[str, tuple[int, int]] = {
    "log": (5_000, 1),
    "time_ms": (3_000, 0),
    "random": (5_000, 20),
    "sha256": (5_000, 4),
    "data_get": (5_000, 1),
    "storage_get": (5_000, 1),
    "storage_put": (10_000, 10),
}
"""Fuel per call, and per byte of the region read (`log`, `sha256`), written (`random`), or of key
and value copied (`data_get`, `storage_get`, `storage_put`)."""

NO_SUCH_KEY = 0xFFFF_FFFF
"""What `data_get` and `storage_get` return for a key that is not there: -1."""

RANDOM_TAG = b"platform/random/v1\x00"
MAX_LOG_LINE_BYTES = 1024
"""A longer line is cut; the guest pays for all of it."""
MAX_LOG_BYTES = 64 * 1024
"""Lines beyond this sum are counted, not kept."""

_MASK = 0xFFFF_FFFF
Arguments = Any
"""A ctypes pointer to 64-bit words; value i is word 2 * i (see `runtime.native`)."""


class _Stop(Exception):  # noqa: N818 - control flow inside a callback, never seen outside
    def __init__(self, trap_code: int) -> None:
        self.trap_code = trap_code


class HostFunctions:
    """The callbacks and the state of the evaluation under way."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.limit_hit: str | None = None
        """What policy limit a call broke; the evaluation is `host_limit`."""
        self.failure: BaseException | None = None
        """An exception of our own code; the evaluation is a fault."""
        self.storage = GuestStorage()
        """What the evaluation may read, and has written; set before it begins."""
        self.calls: Counter[str] = Counter()
        """Calls by name, charged or not."""
        self._context = 0
        self._memory_known = False
        self._memory = ctypes.create_string_buffer(native.EXTERN_BYTES)
        self._memory_address = ctypes.addressof(self._memory) + native.EXTERN_OFFSET
        self._fuel = ctypes.c_uint64()
        self._fuel_address = ctypes.addressof(self._fuel)
        self._log_calls = 0
        self._log_bytes = 0
        self._max_log_lines = 0
        self._time_ms = 0
        self._seed = b""
        self._random = bytearray()
        self._random_block = 0
        bodies: dict[str, Callable[[int, Arguments], None]] = {
            "log": self._do_log,
            "time_ms": self._do_time_ms,
            "random": self._do_random,
            "sha256": self._do_sha256,
            "data_get": self._do_data_get,
            "storage_get": self._do_storage_get,
            "storage_put": self._do_storage_put,
        }
        # ctypes does not keep callbacks alive; the linker that holds them must not outlive us
        self._callbacks = {name: self._callback(body) for name, body in bodies.items()}

    def define(self, linker: wasmtime.Linker) -> None:
        """Define every function in `linker`; which a guest may import is admission's decision."""
        kinds = {I32: wasmtime.ValType.i32(), I64: wasmtime.ValType.i64()}
        namespace = NAMESPACE.encode()
        for name, (params, results) in SIGNATURES.items():
            kind = wasmtime.FuncType([kinds[p] for p in params], [kinds[r] for r in results])
            error = native.define_function(
                native.address(linker.ptr()),
                namespace,
                len(namespace),
                name.encode(),
                len(name),
                native.address(kind.ptr()),
                self._callbacks[name],
                None,
                None,
            )
            if error:
                raise Fault(FaultReason.INTERNAL, native.take_error(error))

    def begin(self, context: int, policy: RuntimePolicy, world: EvaluationContext) -> None:
        """Start an evaluation in the store whose `wasmtime_context_t` is at address `context`."""
        self.reset()
        self._context = context
        self._max_log_lines = policy.max_log_lines
        self._time_ms = world.time_ms
        self._seed = world.seed

    def reset(self) -> None:
        """Forget the evaluation before."""
        self.log = []
        self.limit_hit = None
        self.failure = None
        self.calls.clear()
        self._memory_known = False
        self._log_calls = 0
        self._log_bytes = 0
        self._random.clear()
        self._random_block = 0

    def lines(self) -> tuple[str, ...]:
        """Return the kept log lines, with a note when some were dropped."""
        dropped = self._log_calls - len(self.log)
        note = [f"({dropped} more lines)"] if dropped else []
        return tuple(self.log + note)

    def _callback(self, body: Callable[[int, Arguments], None]) -> Any:  # noqa: ANN401 - a ctypes class
        def enter(_environment: int | None, caller: int, values: Arguments, _count: int) -> int:
            try:
                body(caller, values)
            except _Stop as stop:
                return int(native.new_trap(stop.trap_code))
            except BaseException as error:  # rule 1
                self.failure = error
                return int(native.new_trap(native.TRAP_UNREACHABLE))
            return 0

        return native.CALLBACK(enter)

    def _charge(self, name: str, length: int = 0) -> None:
        per_call, per_byte = COSTS[name]
        self.calls[name] += 1
        self._take(per_call + per_byte * length)

    def _take(self, cost: int) -> None:
        error = native.get_fuel(self._context, self._fuel_address)
        if not error:
            left = self._fuel.value
            error = native.set_fuel(self._context, max(left - cost, 0))
        if error:
            raise Fault(FaultReason.INTERNAL, native.take_error(error))
        if left < cost:
            raise _Stop(native.TRAP_OUT_OF_FUEL)

    def _region(self, caller: int, pointer: int, length: int) -> int:
        """Return the host address of a region of the guest's memory. Rule 3."""
        if not self._memory_known:
            # by name, not from the instance: a start function calls before there is one
            if not native.caller_export(caller, b"memory", 6, ctypes.addressof(self._memory)):
                raise Fault(FaultReason.INTERNAL, "an admitted module without memory")
            self._memory_known = True
        if pointer + length > native.memory_size(self._context, self._memory_address):
            raise _Stop(native.TRAP_OUT_OF_BOUNDS)
        base: int = native.memory_data(self._context, self._memory_address)
        return base + pointer

    def _do_log(self, caller: int, values: Arguments) -> None:
        pointer, length = values[0] & _MASK, values[2] & _MASK
        self._charge("log", length)
        if self._log_calls >= self._max_log_lines:
            self.limit_hit = f"more than {self._max_log_lines} log lines"
            raise _Stop(native.TRAP_UNREACHABLE)
        line = ctypes.string_at(
            self._region(caller, pointer, length), min(length, MAX_LOG_LINE_BYTES)
        )
        self._log_calls += 1
        self._log_bytes += len(line)
        if self._log_bytes <= MAX_LOG_BYTES:
            self.log.append(line.decode(errors="replace"))

    def _do_time_ms(self, _caller: int, values: Arguments) -> None:
        self._charge("time_ms")
        values[0] = self._time_ms

    def _do_random(self, caller: int, values: Arguments) -> None:
        pointer, length = values[0] & _MASK, values[2] & _MASK
        self._charge("random", length)
        target = self._region(caller, pointer, length)
        stream = self._random
        prefix = hashlib.sha256(RANDOM_TAG + self._seed)
        while len(stream) < length:
            block = prefix.copy()
            block.update(self._random_block.to_bytes(8, "big"))
            stream += block.digest()
            self._random_block += 1
        ctypes.memmove(target, bytes(stream[:length]), length)
        del stream[:length]

    def _do_sha256(self, caller: int, values: Arguments) -> None:
        pointer, length, out = values[0] & _MASK, values[2] & _MASK, values[4] & _MASK
        self._charge("sha256", length)
        source = self._region(caller, pointer, length)
        target = self._region(caller, out, 32)
        ctypes.memmove(target, hashlib.sha256(ctypes.string_at(source, length)).digest(), 32)

    def _do_data_get(self, caller: int, values: Arguments) -> None:
        self._get("data_get", self.storage.data, caller, values)

    def _do_storage_get(self, caller: int, values: Arguments) -> None:
        self._get("storage_get", self.storage.snapshot, caller, values)

    def _get(
        self, name: str, source: Mapping[bytes, bytes], caller: int, values: Arguments
    ) -> None:
        pointer, key_bytes = values[0] & _MASK, values[2] & _MASK
        out, capacity = values[4] & _MASK, values[6] & _MASK
        self._charge(name, key_bytes)
        key_at = self._region(caller, pointer, key_bytes)
        target = self._region(caller, out, capacity)
        found = None
        if key_bytes <= MAX_KEY_BYTES:
            found = source.get(ctypes.string_at(key_at, key_bytes))
        if found is None:
            values[0] = NO_SUCH_KEY
            return
        if len(found) <= capacity:
            self._take(COSTS[name][1] * len(found))
            ctypes.memmove(target, found, len(found))
        values[0] = len(found)

    def _do_storage_put(self, caller: int, values: Arguments) -> None:
        pointer, key_bytes = values[0] & _MASK, values[2] & _MASK
        source, value_bytes = values[4] & _MASK, values[6] & _MASK
        self._charge("storage_put", key_bytes + value_bytes)
        key_at = self._region(caller, pointer, key_bytes)
        value_at = self._region(caller, source, value_bytes)
        problem = self.storage.refusal(key_bytes, value_bytes)
        if problem is None:
            problem = self.storage.put(
                ctypes.string_at(key_at, key_bytes), ctypes.string_at(value_at, value_bytes)
            )
        if problem is not None:
            self.limit_hit = problem
            raise _Stop(native.TRAP_UNREACHABLE)
