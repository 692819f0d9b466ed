"""What the parsers of both engine profiles share: segments, and what a body costs to compile.

Initial values differ between the profiles, so whoever reads a segment says how to step over one.
"""

from __future__ import annotations

from collections.abc import Callable

from runtime.wasm_reader import Malformed, Reader

SkipValue = Callable[[Reader], None]

_PASSIVE, _INDEXED, _EXPRESSIONS = 1, 2, 4
"""Bits of a segment's flags; the second one says "declared" of a passive element segment."""
_BRANCHES = b"\x04\x0c\x0d\x0e"
"""`if`, `br`, `br_if`, `br_table`; bytes that are immediates count, too."""


def begin_elements(section: Reader, skip_value: SkipValue) -> tuple[int, int]:
    """Read an element segment up to its entries; return its flags and how many there are."""
    flags = section.u32()
    if flags > _PASSIVE | _INDEXED | _EXPRESSIONS:
        raise Malformed(f"an element segment with flags {flags:#x}")
    if not flags & _PASSIVE:
        if flags & _INDEXED:
            section.u32()  # the table
        skip_value(section)
    if flags & (_PASSIVE | _INDEXED):
        section.byte()  # what its entries are
    return flags, section.u32()


def skip_elements(section: Reader, flags: int, entries: int, skip_value: SkipValue) -> None:
    """Step over an element segment's entries."""
    for _ in range(entries):
        if flags & _EXPRESSIONS:
            skip_value(section)
        else:
            section.u32()


def skip_data(section: Reader, skip_value: SkipValue) -> None:
    """Step over a data segment."""
    flags = section.u32()
    if flags > _INDEXED:
        raise Malformed(f"a data segment with flags {flags:#x}")
    if flags == _INDEXED:
        section.u32()  # the memory
    if flags != _PASSIVE:
        skip_value(section)
    section.sub(section.u32())


def loop_weight(loops: int, variables: int) -> int:
    """Return what a body's loops add to the loop weight."""
    return loops * variables + loops * loops // 100


def branch_weight(code: bytes) -> int:
    """Return what a body adds to the branch weight."""
    branches = len(code) - len(code.translate(None, _BRANCHES))
    return branches + branches * branches // 500
