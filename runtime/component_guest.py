"""One running component: a store, its limits, and calls that take and return strings.

Rules:
1. A component instance is closed in any case; after a trap it is never called again.
2. Strings cross as UTF-8. The engine checks what the guest returns; a string that is none, or lies
   outside the memory, is a trap like any other.
3. The C API gives no trap codes for components. What a trap was is told by figures alone, alike on
   every machine: no fuel left means `out of fuel`, anything else is `trap`. That the deadline
   passed is told by the sandbox's own tick count, and is a fault.
4. Instantiating fails by the guest's doing or by the host's. What the guest ran into has a frame of
   it, or, where a segment lies out of bounds before any code ran, begins with `_TRAP_TEXT`: there
   the library's text is all there is, and the library is part of the engine id. Admission keeps
   the store's limits out of reach, so anything else is the host's, and a fault.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_bool, c_size_t, c_void_p
from typing import Any

from wasmtime import _ffi as ffi

from runtime import native
from runtime.component_rules import MAX_MEMORIES, MAX_MODULES, MAX_TABLE_ELEMENTS, MAX_TABLES
from runtime.engine import PAGE_BYTES
from runtime.errors import Fault, FaultReason

_TRAP_TEXT = "wasm trap: "
_STRING: int = ffi.WASMTIME_COMPONENT_STRING.value


def _bind(name: str, result: type[Any] | None, *arguments: type[Any]) -> Callable[..., Any]:
    function = ffi.dll[name]
    function.restype = result
    function.argtypes = list(arguments)
    return function


_instantiate = _bind("wasmtime_component_linker_instantiate", c_void_p, *[c_void_p] * 4)
_export_index = _bind(
    "wasmtime_component_get_export_index",
    c_void_p,
    *(c_void_p, c_void_p, ctypes.c_char_p, c_size_t),
)
_index_delete = _bind("wasmtime_component_export_index_delete", None, c_void_p)
_get_func = _bind("wasmtime_component_instance_get_func", c_bool, *[c_void_p] * 4)
_call = _bind(
    "wasmtime_component_func_call",
    c_void_p,
    *(c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t),
)
_value_delete = _bind("wasmtime_component_val_delete", None, c_void_p)
_wasm_trace = _bind("wasmtime_error_wasm_trace", None, c_void_p, c_void_p)


class ComponentTrapped(Exception):  # noqa: N818 - the guest's end, not an error of ours
    """The component trapped; `out_of_fuel` says whether it had none left.

    The text names the cause in the library's words (`said`). It is for people, never for decisions.
    """

    def __init__(self, out_of_fuel: bool, said: str) -> None:
        super().__init__("out of fuel" if out_of_fuel else cause_of(said))
        self.out_of_fuel = out_of_fuel


class ComponentGuest:
    """A component's instance; use as a context manager."""

    def __init__(self, engine: int, *, memory_pages: int, fuel: int, ticks: int) -> None:
        """Make the store; `engine` is an address, `ticks` the epoch increments until the deadline.

        Raises `Fault` when the host has no memory for it.
        """
        self._instance = ffi.wasmtime_component_instance_t()
        self._component = 0
        self._functions: dict[str, Any] = {}
        self._store: int | None = native.store_new(engine, None, None)
        if not self._store:
            raise Fault(FaultReason.HOST_MEMORY, "no store")
        self._context: int = native.store_context(self._store)
        native.store_limiter(
            self._store,
            memory_pages * PAGE_BYTES,
            MAX_TABLE_ELEMENTS,
            MAX_MODULES,
            MAX_TABLES,
            MAX_MEMORIES,
        )
        self.set_fuel(fuel)
        native.set_epoch_deadline(self._context, ticks)

    def __enter__(self) -> ComponentGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the store and everything in it."""
        store, self._store = self._store, None
        if store:
            native.store_delete(store)

    def start(self, linker: int, component: int) -> None:
        """Instantiate the component at this address. Raises `ComponentTrapped`, `Fault`."""
        error = _instantiate(linker, self._context, component, byref(self._instance))
        self._component = component
        if not error:
            return
        ran = _ran(error)
        text = native.take_error(error)
        if not ran and not text.startswith(_TRAP_TEXT):
            raise Fault(FaultReason.HOST_MEMORY, text)
        raise ComponentTrapped(self.fuel_left() == 0, text)

    def call(self, name: str, *texts: bytes) -> bytes:
        """Call a function with UTF-8 texts and return its text, UTF-8.

        Raises `ComponentTrapped`.
        """
        function = self._functions.get(name) or self._find(name)
        values = (ffi.wasmtime_component_val_t * len(texts))()
        for value, text in zip(values, texts, strict=True):
            # borrowed for the call: `texts` keeps the bytes alive
            value.kind = _STRING
            value.of.string.size = len(text)
            value.of.string.data = ctypes.cast(
                ctypes.c_char_p(text), ctypes.POINTER(ctypes.c_uint8)
            )
        result = ffi.wasmtime_component_val_t()
        error = _call(byref(function), self._context, values, len(texts), byref(result), 1)
        if error:
            said = native.take_error(error)
            raise ComponentTrapped(self.fuel_left() == 0, said)
        try:
            if result.kind != _STRING:
                raise Fault(FaultReason.INTERNAL, f"{name} returned a value of kind {result.kind}")
            return ctypes.string_at(result.of.string.data, result.of.string.size)
        finally:
            _value_delete(byref(result))

    def set_fuel(self, fuel: int) -> None:
        """Let the guest burn this much from now on."""
        error = native.set_fuel(self._context, fuel)
        if error:
            raise Fault(FaultReason.INTERNAL, native.take_error(error))

    def fuel_left(self) -> int:
        """Return the fuel left; after a trap it says no more than whether there was any."""
        fuel = ctypes.c_uint64()
        error = native.get_fuel(self._context, byref(fuel))
        if error:
            raise Fault(FaultReason.INTERNAL, native.take_error(error))
        return fuel.value

    def _find(self, name: str) -> Any:  # noqa: ANN401 - a ctypes structure
        index = _export_index(self._component, None, name.encode(), len(name))
        if not index:
            raise Fault(FaultReason.INTERNAL, f"an admitted component without {name}")
        function = ffi.wasmtime_component_func_t()
        try:
            if not _get_func(byref(self._instance), self._context, index, byref(function)):
                raise Fault(FaultReason.INTERNAL, f"an admitted component without {name}")
        finally:
            _index_delete(index)
        self._functions[name] = function
        return function


def cause_of(said: str) -> str:
    """Return what a trap was from an error's text, whose lines hold a backtrace, too."""
    for line in said.splitlines():
        _, found, cause = line.partition(_TRAP_TEXT)
        if found and cause:
            return cause.strip()
    return "trap"


def _ran(error: int) -> bool:
    """Whether guest code was running when this error came up."""
    frames = ffi.wasm_frame_vec_t()
    _wasm_trace(error, byref(frames))
    size = int(frames.size)
    ffi.wasm_frame_vec_delete(byref(frames))
    return size > 0
