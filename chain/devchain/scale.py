"""The few SCALE words that the development chain reads or hashes by hand.

Everything that has a type in the metadata goes through the codec of `metadata.py`. What stands
here is the outer form of an extrinsic and the preimages of hashes, where the bytes as they came
matter and no type names them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScaleError(ValueError):
    """The bytes are not what they should be; the message says where."""


def blake2_256(data: bytes) -> bytes:
    """Return the 32-byte BLAKE2b digest: the chain's hash of blocks, extrinsics and commits."""
    return blake2b(data, digest_size=32).digest()


def compact(value: int) -> bytes:
    """Return `value` as a compact integer, in its only (the shortest) form."""
    if value < 0:
        raise ScaleError(f"{value} is negative; compact integers are not")
    if value < 1 << 6:
        return bytes([value << 2])
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 1 << 30:
        return (value << 2 | 2).to_bytes(4, "little")
    size = max(4, (value.bit_length() + 7) // 8)
    return bytes([(size - 4) << 2 | 3]) + value.to_bytes(size, "little")


def vec_u16(values: Sequence[int]) -> bytes:
    """Return a `Vec<u16>`."""
    return compact(len(values)) + b"".join(value.to_bytes(2, "little") for value in values)


class Reader:
    """Reads SCALE from the front of `data`; every short read is a `ScaleError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes, which are `what`."""
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise ScaleError(f"{what}: {size} bytes wanted at {self._at}, {len(part)} left")
        self._at += size
        return part

    def compact(self, what: str) -> int:
        """Return the next compact integer; a longer form than needed is refused."""
        start = self._at
        first = self.take(1, what)[0]
        mode = first & 3
        if mode == 3:
            value = int.from_bytes(self.take((first >> 2) + 4, what), "little")
        else:
            rest = self.take((1 << mode) - 1, what)
            value = int.from_bytes(bytes([first]) + rest, "little") >> 2
        if compact(value) != self._data[start : self._at]:
            raise ScaleError(f"{what}: {value} is not in its shortest compact form")
        return value

    def rest(self) -> bytes:
        """Return all that is left, and leave nothing."""
        part = self._data[self._at :]
        self._at = len(self._data)
        return part

    def integer(self, size: int, what: str) -> int:
        """Return the next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def vec_u16(self, what: str) -> tuple[int, ...]:
        """Return the next `Vec<u16>`."""
        count = self.compact(what)
        part = self.take(2 * count, what)
        return tuple(int.from_bytes(part[at : at + 2], "little") for at in range(0, 2 * count, 2))

    def vec_u8(self, what: str) -> bytes:
        """Return the next `Vec<u8>`."""
        return self.take(self.compact(what), what)
