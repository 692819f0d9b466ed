"""The few functions of libwasmtime the hot path calls, bound with plain integers for pointers.

Rules:
1. The public wasmtime-py classes cost 30 us a call in wrappers, and their host functions keep
   exceptions in a process global that threads share. Compiling and linking go through them; running
   goes through here.
2. Whoever gets a trap or error pointer from these functions deletes it, by `take_trap` or
   `take_error`; nothing else here owns anything.
3. Values cross as `wasmtime_val_raw_t`, 16 bytes each: value i is the 64-bit word 2 * i, little
   endian. An i32 uses the low half, whatever is in the high one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_int64, c_size_t, c_uint8, c_uint64, c_void_p
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

WORDS_PER_VALUE = 2
assert ctypes.sizeof(ffi.wasmtime_val_raw_t) == 8 * WORDS_PER_VALUE

EXTERN_BYTES = ctypes.sizeof(ffi.wasmtime_extern_t)
EXTERN_OFFSET: int = ffi.wasmtime_extern_t.of.offset
"""Where the handle (function, memory) starts within a `wasmtime_extern_t`."""

TRAP_OUT_OF_BOUNDS = wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS.value
TRAP_UNREACHABLE = wasmtime.TrapCode.UNREACHABLE.value
TRAP_INTERRUPT = wasmtime.TrapCode.INTERRUPT.value
TRAP_OUT_OF_FUEL = wasmtime.TrapCode.OUT_OF_FUEL.value
_TRAP_NAMES: dict[int, str] = {code.value: code.name.lower() for code in wasmtime.TrapCode}

CALLBACK = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, ctypes.POINTER(c_uint64), c_size_t)
"""`wasmtime_func_unchecked_callback_t`: environment, caller, values, their number; returns a trap
or 0."""


def _bind(name: str, result: type[Any] | None, *arguments: type[Any]) -> Callable[..., Any]:
    # by item: a new function object, so that wasmtime-py's own prototypes stay as they are
    function = ffi.dll[name]
    function.restype = result
    function.argtypes = list(arguments)
    return function


store_new = _bind("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = _bind("wasmtime_store_context", c_void_p, c_void_p)
store_limiter = _bind("wasmtime_store_limiter", None, c_void_p, *[c_int64] * 5)
store_delete = _bind("wasmtime_store_delete", None, c_void_p)
set_fuel = _bind("wasmtime_context_set_fuel", c_void_p, c_void_p, c_uint64)
get_fuel = _bind("wasmtime_context_get_fuel", c_void_p, c_void_p, c_void_p)
set_epoch_deadline = _bind("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
instantiate = _bind("wasmtime_instance_pre_instantiate", c_void_p, *[c_void_p] * 4)
instance_export = _bind(
    "wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, ctypes.c_char_p, c_size_t, c_void_p
)
caller_export = _bind(
    "wasmtime_caller_export_get", c_bool, c_void_p, ctypes.c_char_p, c_size_t, c_void_p
)
call = _bind(
    "wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p
)
memory_data = _bind("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_size = _bind("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
new_trap = _bind("wasmtime_trap_new_code", c_size_t, c_uint8)
define_function = _bind(
    "wasmtime_linker_define_func_unchecked",
    c_void_p,
    c_void_p,
    ctypes.c_char_p,
    c_size_t,
    ctypes.c_char_p,
    c_size_t,
    c_void_p,
    CALLBACK,
    c_void_p,
    c_void_p,
)
_trap_code = _bind("wasmtime_trap_code", c_bool, c_void_p, c_void_p)
_trap_delete = _bind("wasm_trap_delete", None, c_void_p)
_error_message = _bind("wasmtime_error_message", None, c_void_p, c_void_p)
_error_delete = _bind("wasmtime_error_delete", None, c_void_p)
_validate = _bind("wasmtime_module_validate", c_void_p, c_void_p, ctypes.c_char_p, c_size_t)


def address(pointer: ctypes._Pointer[Any]) -> int:
    """Return the address held by a ctypes pointer of wasmtime-py, such as `engine.ptr()`."""
    value = ctypes.cast(pointer, c_void_p).value
    assert value
    return value


def take_trap(trap: int) -> int | None:
    """Delete a trap and return its code; None for a trap without one."""
    code = c_uint8()
    known = _trap_code(trap, ctypes.byref(code))
    _trap_delete(trap)
    return code.value if known else None


def take_error(error: int) -> str:
    """Delete an error and return its text, which is for people only."""
    text = ffi.wasm_byte_vec_t()
    _error_message(error, ctypes.byref(text))
    _error_delete(error)
    message = ctypes.string_at(text.data, text.size).decode(errors="replace")
    ffi.wasm_byte_vec_delete(ctypes.byref(text))
    return message


def validate(engine: int, module: bytes) -> str | None:
    """Return what the engine's validator says against `module`, or None when it is valid."""
    error = _validate(engine, module, len(module))
    return take_error(error) if error else None


def trap_name(code: int | None) -> str:
    """Return a trap code's name for messages; never for decisions."""
    return "trap" if code is None else _TRAP_NAMES.get(code, f"trap code {code}")
