"""Mutations that know what an encoding looks like.

Random bytes are refused at the first one; what finds defects is a valid encoding with one thing
wrong with it. `mutate` takes a valid encoding and does a few of these to it: a flipped bit, a cut
end, an announced length that is far too long, a number at its bound, a longer form of a value, a
part put twice, in another place or replaced by one of another encoding, arrays in arrays.

Everything is a function of the data, the other encodings and the seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

MAX_BYTES = 65_536
MAX_STEPS = 4
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_HEADS = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_NUMBERS = {
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    0xCA: 4,
    0xCB: 8,
}
_BOUNDS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
BOMBS = (
    b"\xdd\xff\xff\xff\xff",  # arrays, maps, bins, strings and extensions that announce 4 GiB
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\x91" * 5_000,
    b"\x81\xa0" * 2_000,
    b"\x91" * 10_000 + b"\xc0",
    b"[" * 10_000,
    b"{" * 10_000,
    b"a." * 5_000,
    b"9" * 10_000,
    b"\xff" * 16,
    b"\x80" * 12,
    b"\x40\x00\x00\x00",  # the length prefix of a frame of 1 GiB
    b"",
)


Step = Callable[[bytes, Sequence[bytes], Random], bytes]
"""Changes one thing in an encoding: `step(data, other encodings, random)`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A MessagePack value without members, or the head of an array: `data[start:end]`."""

    start: int
    end: int
    head_bytes: int


def parts(data: bytes, limit: int = 4_096) -> list[Part]:
    """Return the parts of what looks like MessagePack; other bytes are parts of one byte."""
    found: list[Part] = []
    at = 0
    while at < len(data) and len(found) < limit:
        first = data[at]
        if first in _LENGTHS:
            head = 1 + _LENGTHS[first]
            size = head + int.from_bytes(data[at + 1 : at + head], "big")
        elif first in _NUMBERS or first in _HEADS:
            size = head = 1 + _NUMBERS.get(first, 0) + _HEADS.get(first, 0)
        elif 0xA0 <= first < 0xC0:
            head, size = 1, 1 + first - 0xA0
        else:
            head = size = 1
        end = min(at + size, len(data))
        found.append(Part(at, end, head))
        at = end
    return found


def mutate(data: bytes, others: Sequence[bytes], seed: int) -> bytes:
    """Return `data` with up to `MAX_STEPS` things changed, at most `MAX_BYTES` long."""
    random = Random(seed)
    for _ in range(random.randint(1, MAX_STEPS)):
        step: Step = random.choice(STEPS)
        data = step(data, others, random)[:MAX_BYTES]
    return data


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    if not data:
        return b"\0"
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _set_byte(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(1) + data[at + 1 :]


def _truncate(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _extend(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data + random.randbytes(random.randint(1, 16))


def _insert(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(BOMBS)[:256] + data[at:]


def _pick(data: bytes, random: Random) -> Part:
    return random.choice(parts(data) or [Part(0, 0, 0)])


def _splice(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(others) if others else data
    mine, theirs = _pick(data, random), _pick(other, random)
    tail = len(other) if random.random() < 0.3 else theirs.end
    return data[: mine.start] + other[theirs.start : tail] + data[mine.end :]


def _repeat(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    part = _pick(data, random)
    return data[: part.end] + data[part.start : part.end] * random.randint(1, 40) + data[part.end :]


def _drop(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    part = _pick(data, random)
    return data[: part.start] + data[part.end :]


def _swap(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    first, second = sorted((_pick(data, random), _pick(data, random)), key=lambda p: p.start)
    if first.end > second.start:
        return data
    return b"".join(
        (
            data[: first.start],
            data[second.start : second.end],
            data[first.end : second.start],
            data[first.start : first.end],
            data[second.end :],
        )
    )


def _announce(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Give a part another head: of another length or kind."""
    part = _pick(data, random)
    length = random.choice((*_BOUNDS[:9], part.end - part.start - part.head_bytes))
    code, size = random.choice([*_LENGTHS.items(), *_HEADS.items()])
    head = bytes([code]) + (length % (1 << 8 * size)).to_bytes(size, "big")
    return data[: part.start] + head + data[part.start + part.head_bytes :]


def _number(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Put a number at a bound, in any form that holds it, the shortest or not."""
    part = _pick(data, random)
    code, size = random.choice(list(_NUMBERS.items()))
    value = random.choice(_BOUNDS) % (1 << 8 * size)
    return data[: part.start] + bytes([code]) + value.to_bytes(size, "big") + data[part.end :]


def _field(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Overwrite a few bytes with a number: a length, offset or counter of a fixed layout."""
    size = random.choice((1, 2, 4, 8))
    at = random.randint(0, max(0, len(data) - size))
    order: Literal["big", "little"] = "big" if random.random() < 0.7 else "little"
    value = (random.choice(_BOUNDS) % (1 << 8 * size)).to_bytes(size, order)
    return data[:at] + value + data[at + size :]


def _in_frame(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Change what one frame of a stream carries, and announce its new length."""
    lengths, read = (_big_endian, _read_big_endian)
    frames = _frames(data, read)
    if frames is None:
        lengths, read = (_varint, _read_varint)
        frames = _frames(data, read)
    if not frames:
        return data
    at = random.randrange(len(frames))
    inner = [frame for other in others for frame in _frames(other, read) or ()]
    step: Step = random.choice(STEPS)
    frames[at] = step(frames[at], inner, random)
    return b"".join(lengths(len(frame)) + frame for frame in frames)


def _frames(data: bytes, read: Callable[[bytes, int], tuple[int, int]]) -> list[bytes] | None:
    """Split what consists of frames alone, else None; `read` returns (length, where it ends)."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        size, at = read(data, at)
        if at + size > len(data) or len(found) > 64:
            return None
        found.append(data[at : at + size])
        at += size
    return found


def _big_endian(length: int) -> bytes:
    return length.to_bytes(4, "big")


def _read_big_endian(data: bytes, at: int) -> tuple[int, int]:
    return int.from_bytes(data[at : at + 4], "big"), at + 4


def _varint(length: int) -> bytes:
    low, high = length & 0x7F, length >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 35:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
    return len(data), at  # longer than what there is: no frame


_WORD = re.compile(rb"[^\s=,\[\]{}\"]+")


def _word(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Replace a word of a text by one of another text, or by something unlikely."""
    words = [m.span() for m in _WORD.finditer(data)]
    if not words:
        return data
    start, end = random.choice(words)
    source = random.choice(others) if others else data
    new: bytes = random.choice([*_WORD.findall(source), *_ODD_WORDS])
    return data[:start] + new + data[end:]


_ODD_WORDS = (
    *(
        b"-1",
        b"1e999",
        b"nan",
        b"inf",
        b"0x" + b"f" * 40,
        b"9" * 5_000,
        b"true",
        b'""',
        b"[]",
        b"{}",
    ),
    *(b'"\\u0000"', b'"\\ud800"', b"1979-05-27T07:32:00Z", b"[" * 2_000, b"a." * 500 + b"b"),
)

STEPS: tuple[Step, ...] = (
    _flip,
    _set_byte,
    _truncate,
    _extend,
    _insert,
    _splice,
    _repeat,
    _drop,
    _swap,
    _announce,
    _number,
    _field,
    _word,
    _in_frame,
    _in_frame,
)
