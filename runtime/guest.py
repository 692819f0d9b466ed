"""One running instance: a store, its limits, and the three things the host does with it.

Rules:
1. A guest lives for one evaluation and is closed in any case.
2. The host reads and writes guest memory only inside bounds it has just asked for: a call into the
   guest may grow or move its memory.
3. A trap is reported by its code. Texts are never looked at.
"""

from __future__ import annotations

import ctypes

from protocol.records.challenge import EvaluationContext, RuntimePolicy
from runtime import native
from runtime.engine import MAX_TABLE_ELEMENTS, PAGE_BYTES
from runtime.errors import Fault, FaultReason
from runtime.host_functions import HostFunctions

_ALLOC, _EVALUATE, _MEMORY = range(3)
_NAMES = (b"alloc", b"evaluate", b"memory")


class Trapped(Exception):  # noqa: N818 - the guest's end, not an error of ours
    """The guest trapped. `code` is wasmtime's trap code, None for a trap without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(native.trap_name(code))
        self.code = code


class Frame:
    """The C structures that a guest's calls go through; one guest after the other may use them."""

    def __init__(self) -> None:
        self._instance = (ctypes.c_uint64 * 2)()
        self._exports = ctypes.create_string_buffer(native.EXTERN_BYTES * len(_NAMES))
        self._fuel = ctypes.c_uint64()
        self.values = (ctypes.c_uint64 * (2 * native.WORDS_PER_VALUE))()
        self.trap = ctypes.c_void_p()
        self.instance_at = ctypes.addressof(self._instance)
        self.exports_at = ctypes.addressof(self._exports)
        self.handles_at = self.exports_at + native.EXTERN_OFFSET
        self.values_at = ctypes.addressof(self.values)
        self.fuel_at = ctypes.addressof(self._fuel)
        self.trap_at = ctypes.addressof(self.trap)

    @property
    def fuel(self) -> int:
        """What was read into `fuel_at`."""
        return self._fuel.value


class Guest:
    """An instance made for one evaluation; use as a context manager."""

    def __init__(
        self,
        frame: Frame,
        engine: int,
        host: HostFunctions,
        policy: RuntimePolicy,
        world: EvaluationContext,
        ticks: int,
    ) -> None:
        """Make the store; `engine` is an address, `ticks` the epoch increments until the deadline.

        Raises `Fault` when the host has no memory for it.
        """
        self._frame = frame
        self._store: int | None = native.store_new(engine, None, None)
        if not self._store:
            raise Fault(FaultReason.HOST_MEMORY, "no store")
        self._context: int = native.store_context(self._store)
        native.store_limiter(
            self._store, policy.memory_pages * PAGE_BYTES, MAX_TABLE_ELEMENTS, 1, 1, 1
        )
        self._check(native.set_fuel(self._context, policy.fuel))
        native.set_epoch_deadline(self._context, ticks)
        host.begin(self._context, policy, world)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the store and everything in it."""
        store, self._store = self._store, None
        if store:
            native.store_delete(store)

    def start(self, prepared: int) -> None:
        """Instantiate the module at address `prepared` (a `wasmtime_instance_pre_t`).

        Raises `Trapped` from the start section or an active segment out of bounds, and `Fault`
        (host_memory) for anything else: admission leaves no other deterministic reason.
        """
        frame = self._frame
        error = native.instantiate(prepared, self._context, frame.instance_at, frame.trap_at)
        self._check(error, FaultReason.HOST_MEMORY)
        for index, name in enumerate(_NAMES):
            slot = frame.exports_at + index * native.EXTERN_BYTES
            if not native.instance_export(self._context, frame.instance_at, name, len(name), slot):
                raise Fault(FaultReason.INTERNAL, f"an admitted module without {name.decode()}")

    def alloc(self, size: int) -> int:
        """Return the guest's pointer to `size` bytes, 0 if it has none. Raises `Trapped`."""
        return self._call(_ALLOC, size, 0) & 0xFFFF_FFFF

    def evaluate(self, pointer: int, size: int) -> tuple[int, int]:
        """Run the guest over its input; return pointer and size of its output. Raises `Trapped`."""
        result = self._call(_EVALUATE, pointer, size)
        return result & 0xFFFF_FFFF, result >> 32

    def write(self, pointer: int, data: bytes) -> bool:
        """Copy `data` into the guest's memory; False when it does not fit there."""
        base = self._region(pointer, len(data))
        if base is not None:
            ctypes.memmove(base, data, len(data))
        return base is not None

    def read(self, pointer: int, size: int) -> bytes | None:
        """Return bytes of the guest's memory; None when the region is not inside it."""
        base = self._region(pointer, size)
        return None if base is None else ctypes.string_at(base, size)

    def fuel_left(self) -> int:
        """Return the fuel left; meaningful only when the guest did not trap."""
        self._check(native.get_fuel(self._context, self._frame.fuel_at))
        return self._frame.fuel

    def _region(self, pointer: int, size: int) -> int | None:
        memory = self._frame.handles_at + _MEMORY * native.EXTERN_BYTES
        if pointer + size > native.memory_size(self._context, memory):
            return None
        base: int = native.memory_data(self._context, memory)
        return base + pointer

    def _call(self, export: int, first: int, second: int) -> int:
        frame, values = self._frame, self._frame.values
        values[0] = first
        values[native.WORDS_PER_VALUE] = second
        function = frame.handles_at + export * native.EXTERN_BYTES
        self._check(native.call(self._context, function, frame.values_at, 2, frame.trap_at))
        return int(values[0])

    def _check(self, error: int | None, reason: FaultReason = FaultReason.INTERNAL) -> None:
        if error:
            raise Fault(reason, native.take_error(error))
        trap = self._frame.trap.value
        if trap:
            self._frame.trap.value = None
            raise Trapped(native.take_trap(trap))
