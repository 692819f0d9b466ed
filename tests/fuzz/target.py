"""A target: one function that takes bytes from strangers, and what it may do with them.

It may return, or raise one of its documented errors; nothing else. It may take `MAX_RUN_S` of CPU
time, and while it is being watched `MAX_PEAK_BYTES` of memory over its input's own size, times
`MAX_PEAK_FACTOR`.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_RUN_S = 2.0
MAX_PEAK_BYTES = 16 * 1024 * 1024
MAX_PEAK_FACTOR = 64
"""An array of small values takes that much more as Python objects than as bytes."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        run: takes the bytes.
        errors: what it may raise.
        seeds: valid inputs, which mutations start from.
        refuses_seeds: whether a seed may be refused (a handler may have seen it before).
    """

    run: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    refuses_seeds: bool = False


@dataclass
class Site:
    """Where a target lives: an empty folder, and what is to be closed at the end."""

    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)


Maker = Callable[[Site], Target]
"""Makes a target; imports what it needs, so that the table can be read without it."""


class TooSlowError(AssertionError):
    """An input took more CPU time than any may."""


class TooLargeInMemoryError(AssertionError):
    """An input took more memory than its size allows."""


def attempt(target: Target, data: bytes) -> bool:
    """Give the target one input; return whether it took it.

    Raises `TooSlowError`, and whatever the target raises beyond its documented errors.
    """
    began = time.process_time()
    try:
        target.run(data)
    except target.errors:
        taken = False
    else:
        taken = True
    spent = time.process_time() - began
    if spent > MAX_RUN_S:
        raise TooSlowError(f"{len(data)} bytes took {spent:.1f} s: {data[:64].hex()}...")
    return taken


def attempt_watched(target: Target, data: bytes) -> bool:
    """Do the same and watch what is allocated. Raises `TooLargeInMemoryError`."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        taken = attempt(target, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak - before > MAX_PEAK_BYTES + MAX_PEAK_FACTOR * len(data):
        raise TooLargeInMemoryError(
            f"{len(data)} bytes took {(peak - before) >> 20} MiB: {data[:64].hex()}..."
        )
    return taken
