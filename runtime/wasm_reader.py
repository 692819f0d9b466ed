"""A bounds-checked reader of the WebAssembly binary format, as far as admission needs it.

Rules:
1. Reading beyond the end, an over-long LEB128 number or an unknown form raises `Malformed`; no
   other exception leaves a `Reader`.
2. A sub-reader ends where its section or body ends and cannot see what follows.
"""

from __future__ import annotations

I32, I64 = 0x7F, 0x7E
VALUE_TYPES = frozenset({0x7F, 0x7E, 0x7D, 0x7C, 0x70})
"""i32, i64, f32, f64 and funcref; no vectors and no external references."""

FuncType = tuple[tuple[int, ...], tuple[int, ...]]
"""Parameters and results, as value type bytes."""


class Malformed(Exception):  # noqa: N818 - never leaves runtime.admission
    """The bytes are not the binary format we read; the message says where."""


class Reader:
    """A cursor over `data[at:end]`."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.at == self.end

    def byte(self) -> int:
        """Read one byte."""
        at = self.at
        if at >= self.end:
            raise Malformed(f"ends at byte {self.end} inside an item")
        self.at = at + 1
        return self.data[at]

    def u32(self) -> int:
        """Read an unsigned LEB128 number of at most 32 bits in at most 5 bytes."""
        value = self.byte()
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in (7, 14, 21, 28):
            part = self.byte()
            value |= (part & 0x7F) << shift
            if part < 0x80:
                if value > 0xFFFF_FFFF:
                    break
                return value
        raise Malformed(f"the number before byte {self.at} exceeds 32 bits")

    def sub(self, size: int) -> Reader:
        """Return a reader of the next `size` bytes and step over them."""
        start = self.at
        if size > self.end - start:
            raise Malformed(f"{size} bytes at {start} where {self.end - start} are left")
        self.at = start + size
        return Reader(self.data, start, self.at)

    def name(self) -> str:
        """Read a length-prefixed UTF-8 name."""
        part = self.sub(self.u32())
        try:
            return self.data[part.at : part.end].decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the name at byte {part.at} is not UTF-8") from error

    def value_types(self) -> tuple[int, ...]:
        """Read a vector of value types."""
        part = self.sub(self.u32())
        kinds = tuple(self.data[part.at : part.end])
        if not VALUE_TYPES.issuperset(kinds):
            raise Malformed(f"an unknown value type after byte {part.at}")
        return kinds

    def limits(self) -> int:
        """Read the limits of a table or memory (32 bits, not shared) and return the minimum."""
        flags = self.byte()
        if flags not in {0, 1}:
            raise Malformed(f"limits with flags {flags:#x}")
        minimum = self.u32()
        if flags:
            self.u32()
        return minimum

    def skip_rest(self) -> None:
        """Step over what is left."""
        self.at = self.end

    def expect_end(self) -> None:
        """Raise unless everything was read."""
        if self.at != self.end:
            raise Malformed(f"{self.end - self.at} bytes too many before byte {self.end}")
