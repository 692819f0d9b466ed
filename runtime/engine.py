"""The pinned WebAssembly engine: one configuration, one identity.

Rules:
1. Two validators agree only under one engine: the library's bytes, the options below and the ABI
   version are hashed into the engine id, which is part of every verdict. Changing a line of
   `OPTIONS` is a network upgrade.
2. Every option is set, also where the library's default is the same today.
3. The target is named, so that no CPU feature of the host reaches the generated code.
4. An invalid combination makes wasmtime abort the process, so `OPTIONS` is tested, never computed.
5. There are two profiles: core modules (C, AssemblyScript) and components (Python). One engine id
   covers both, for a network runs both. Which one a module belongs to is told by its first bytes.

Checked in wasmtime-py 50.0.1: `Config` has no property for branch hinting, compact imports,
concurrency support, nor for component-model async (three options), canonical names and accessors.
All eight exist as `wasmtime_config_<name>_set` in `wasmtime._bindings` and are set through it;
there is none for legacy exceptions, extended constant expressions or the GC-only reference types,
which `gc_support=False` refuses.
"""

from __future__ import annotations

import functools
import hashlib
import os
import resource
from collections.abc import Mapping
from pathlib import Path

import wasmtime
from wasmtime import _ffi as ffi

from protocol.codec import sha256

ABI_VERSION = 2
"""Version of the guest ABI: exports, imports, input and output maps, host function costs."""

ENGINE_TAG = b"platform/engine/v1\x00"
PAGE_BYTES = 65_536
MAX_TABLE_ELEMENTS = 10_000
MAX_MEMORY_PAGES = 1024
MAX_WASM_STACK_BYTES = 512 * 1024

OPTIONS: tuple[tuple[str, str | int | bool], ...] = (
    ("strategy", "cranelift"),
    ("target", "x86_64-unknown-linux-gnu"),
    ("cranelift_opt_level", "speed"),
    ("cranelift_nan_canonicalization", True),
    ("consume_fuel", True),
    ("epoch_interruption", True),
    ("memory_init_cow", False),  # copy-on-write initialisation changes the fuel it costs
    ("max_wasm_stack", MAX_WASM_STACK_BYTES),
    ("parallel_compilation", False),
    ("wasm_bulk_memory", True),
    ("wasm_multi_value", True),
    ("wasm_reference_types", True),  # today's LLVM writes table indices in that proposal's form
    ("wasm_relaxed_simd", False),  # before simd: relaxed without plain SIMD is an invalid pair
    ("wasm_simd", False),
    ("wasm_threads", False),
    ("wasm_memory64", False),
    ("wasm_multi_memory", False),
    ("wasm_tail_call", False),
    ("wasm_gc", False),
    ("wasm_exceptions", False),
    ("wasm_function_references", False),
    ("wasm_custom_page_sizes", False),
    ("wasm_stack_switching", False),
    ("wasm_wide_arithmetic", False),
    ("wasm_component_model", False),
    ("wasm_component_model_map", False),
    ("wasm_component_model_implements", False),
    ("shared_memory", False),
    ("gc_support", False),
)
"""Options with a property on `wasmtime.Config`, in the order they are set."""

RAW_OPTIONS: tuple[tuple[str, bool], ...] = (
    ("wasm_component_model_async", False),
    ("wasm_component_model_more_async_builtins", False),
    ("wasm_component_model_async_stackful", False),
    ("wasm_component_model_canonical_names", False),
    ("wasm_component_model_accessors", False),
    ("concurrency_support", False),
    ("wasm_branch_hinting", False),
    ("wasm_compact_imports", False),
)
"""Options reachable only through `wasmtime._bindings`."""

POOLING: tuple[tuple[str, int], ...] = (
    ("total_core_instances", 1),
    ("total_memories", 1),
    ("total_tables", 1),
    ("max_memories_per_module", 1),
    ("max_tables_per_module", 1),
    ("max_core_instance_size", 4 * 1024 * 1024),  # 20,000 functions and 1,000 globals need less
    ("max_memory_size", MAX_MEMORY_PAGES * PAGE_BYTES),
    ("table_elements", MAX_TABLE_ELEMENTS),
    ("linear_memory_keep_resident", 256 * 1024),
    ("table_keep_resident", 2 * 8 * MAX_TABLE_ELEMENTS),
    ("max_unused_warm_slots", 1),
)
"""One place for one instance, cleaned and used again: mapping and unmapping its memory took half
the time of a small evaluation. Limits here are those of admission, never tighter."""

COMPONENT_CHANGES: tuple[tuple[str, bool], ...] = (
    ("wasm_component_model", True),
    ("memory_init_cow", True),
)
"""What the component profile sets otherwise. It has no pool. An interpreter's 11 MB of memory are
mapped, not copied: 1.1 ms an instance instead of 8.5. That changes what an instance costs in fuel,
alike on every host that passes `host_limits_error`."""

CONFIG_TEXT = "".join(f"{name}={value}\n" for name, value in OPTIONS + RAW_OPTIONS + POOLING) + (
    "".join(f"component.{name}={value}\n" for name, value in COMPONENT_CHANGES)
)


def new_engine(*, compiles_only: bool = False) -> wasmtime.Engine:
    """Return an engine with exactly the options above.

    It has room for one instance at a time. One that `compiles_only` makes the same code and
    reserves no room: 4 GiB of address space would not fit under the compiler's limits.
    """
    config = _configured(dict(OPTIONS))
    if not compiles_only:
        pooling = ffi.wasmtime_pooling_allocation_config_new()
        for name, limit in POOLING:
            getattr(ffi, f"wasmtime_pooling_allocation_config_{name}_set")(pooling, limit)
        ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pooling)
        ffi.wasmtime_pooling_allocation_config_delete(pooling)
    return wasmtime.Engine(config)


def new_component_engine() -> wasmtime.Engine:
    """Return an engine of the component profile; it reserves nothing until it is used."""
    return wasmtime.Engine(_configured(dict(OPTIONS) | dict(COMPONENT_CHANGES)))


def _configured(options: Mapping[str, str | int | bool]) -> wasmtime.Config:
    config = wasmtime.Config()
    for name, value in options.items():
        setattr(config, name, value)
    for name, enabled in RAW_OPTIONS:
        getattr(ffi, f"wasmtime_config_{name}_set")(config.ptr(), enabled)
    return config


@functools.cache
def engine_id() -> bytes:
    """Return the identity of this engine, 32 bytes; reads the library's 30 MB once.

    SHA-256 of: the tag `ENGINE_TAG`, the SHA-256 of the library file, the length of `CONFIG_TEXT`
    (4 bytes, big endian), `CONFIG_TEXT` in ASCII, `ABI_VERSION` (4 bytes, big endian).
    """
    with Path(ffi.filename).open("rb") as library:
        library_hash = hashlib.file_digest(library, "sha256").digest()
    text = CONFIG_TEXT.encode("ascii")
    return sha256(
        ENGINE_TAG,
        library_hash,
        len(text).to_bytes(4, "big"),
        text,
        ABI_VERSION.to_bytes(4, "big"),
    )


def host_limits_error() -> str | None:
    """Return why this process must not evaluate, or None.

    Under a limit on data or address space, or strict overcommit, the kernel may refuse pages that
    the policy grants; the guest would see `memory.grow` return -1 on this machine only.
    """
    for name, kind in (("RLIMIT_DATA", resource.RLIMIT_DATA), ("RLIMIT_AS", resource.RLIMIT_AS)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            return f"{name} is {soft}, it must be unlimited"
    overcommit = Path("/proc/sys/vm/overcommit_memory")
    if overcommit.exists() and overcommit.read_text().strip() == "2":
        return "vm.overcommit_memory is 2, it must be 0 or 1"
    if not _maps_images():
        return "the kernel has no memfd_create: instances of components would cost another fuel"
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if stack != resource.RLIM_INFINITY and stack < 4 * MAX_WASM_STACK_BYTES:
        return f"RLIMIT_STACK is {stack}, it must be {4 * MAX_WASM_STACK_BYTES} or more"
    return None


@functools.cache
def _maps_images() -> bool:
    try:
        os.close(os.memfd_create("engine check"))
    except OSError:
        return False
    return True
