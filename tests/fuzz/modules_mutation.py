"""Mutations that know what a WebAssembly module looks like.

A random byte in a module mostly ends in the parser's first lines. What gets further is a module
whose lengths hold and in which one thing is wrong: another opcode, a number at its bound, a body
or section that is missing, doubled, in another place, or another module's. `mutate` does one to
three such things, or gives something that is no module at all.

Everything is a function of the module, the other modules and the random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

HEADER = b"\x00asm\x01\x00\x00\x00"
CODE, DATA = 10, 11
MAX_BYTES = 1 << 20
_BOUNDS = (0, 1, 2, 0x3F, 0x40, 0x7F, 0x80, 0xFF, 500, 501, 1024, 1025, 10_000, 10_001, 2**16)
_LARGE = (2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63)
_OPCODES = bytes.fromhex(
    "0001020304050b0c0d0e0f10111a1b2021222324282d2f3637393f4041424445466a6d7cfc"
)
_HEADERS = (
    b"",
    b"\x00asm",
    b"\x00asm\x02\x00\x00\x00",
    b"\x00asm\x0d\x00\x01\x00",  # a component
    b"\x7fELF\x02\x01\x01\x00",
    b"MZ\x90\x00\x03\x00\x00\x00",
    b"BC\xc0\xde\x00\x00\x00\x00",
)
_TEXTS = (
    b"(module)",
    b'(module (memory (export "memory") 1))',
    (
        b'(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32)'
        b' i32.const 8) (func (export "evaluate") (param i32 i32) (result i64) i64.const 8))'
    ),
    b'\xef\xbb\xbf(module binary "\\00asm\\01\\00\\00\\00")',
    b";; nothing",
)

Section = tuple[int, bytes]
Step = Callable[[bytes, Sequence[bytes], Random], bytes]
"""Changes one thing in a module: `step(module, other modules, random)`."""


def leb(value: int, width: int = 0) -> bytes:
    """Write an unsigned LEB128 number in at least `width` bytes."""
    out = bytearray()
    while value >= 0x80 or len(out) + 1 < width:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def read_leb(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and where it ends; what is cut counts as ended."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return value, at


def split(module: bytes) -> list[Section]:
    """Return the sections, each as its number and content; the last one may be cut."""
    sections, at = [], len(HEADER)
    while at < len(module):
        size, start = read_leb(module, at + 1)
        sections.append((module[at], module[start : start + size]))
        at = start + size
    return sections


def join(sections: Sequence[Section]) -> bytes:
    """Return the module of these sections."""
    return HEADER + b"".join(bytes((kind,)) + leb(len(body)) + body for kind, body in sections)


def bodies(section: bytes) -> list[bytes]:
    """Return the function bodies of a code section."""
    found: list[bytes] = []
    count, at = read_leb(section, 0)
    while at < len(section) and len(found) < count:
        size, start = read_leb(section, at)
        found.append(section[start : start + size])
        at = start + size
    return found


def code_section(found: Sequence[bytes]) -> bytes:
    """Return the code section of these bodies."""
    return leb(len(found)) + b"".join(leb(len(body)) + body for body in found)


def _flip(data: bytes, random: Random, most: int) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, most) if data else 0):
        changed[random.randrange(len(changed))] = random.choice(
            (random.randrange(256), random.choice(_OPCODES))
        )
    return bytes(changed)


def _number(random: Random) -> bytes:
    """Return a number near a bound, now and then in more bytes than it needs, or than it may."""
    value = random.choice(_BOUNDS if random.random() < 0.7 else _LARGE)
    return leb(value, random.choice((0, 0, 0, 2, 5, 6, 11)))


def flip_bytes(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Change bytes anywhere, lengths and header included."""
    return _flip(module, random, 4)


def truncate(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Cut the end off."""
    return module[: random.randrange(len(module) + 1)]


def shuffle_sections(module: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Swap, drop, double or move sections, or take one from another module."""
    sections = split(module)
    if not sections:
        return module
    first, second = random.randrange(len(sections)), random.randrange(len(sections))
    match random.randrange(5):
        case 0:
            sections[first], sections[second] = sections[second], sections[first]
        case 1:
            del sections[first]
        case 2:
            sections.insert(second, sections[first])
        case 3:
            sections[first] = (random.randrange(16), sections[first][1])
        case _:
            foreign = random.choice(split(random.choice(others)) or [(0, b"\x00")])
            same = [n for n, (kind, _) in enumerate(sections) if kind == foreign[0]]
            sections[same[0] if same else first] = foreign
    return join(sections)


def change_section(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Damage the inside of one section, whose length then holds again."""
    sections = split(module)
    if not sections:
        return module
    chosen = random.randrange(len(sections))
    kind, body = sections[chosen]
    at = random.randrange(len(body) + 1)
    match random.randrange(4):
        case 0:
            body = _flip(body, random, 3)
        case 1:
            body = body[:at]
        case 2:  # the announced number of entries
            body = _number(random) + body[read_leb(body, 0)[1] :]
        case _:
            body = body[:at] + _number(random) + body[read_leb(body, at)[1] :]
    sections[chosen] = (kind, body)
    return join(sections)


def damage_length(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Announce another length for a section, or the same one in more bytes."""
    sections = split(module)
    chosen = random.randrange(len(sections) + 1)
    parts = [HEADER]
    for number, (kind, body) in enumerate(sections):
        size = leb(len(body))
        if number == chosen:
            exact = random.random() < 0.3
            size = leb(len(body), random.randint(2, 6)) if exact else _number(random)
        parts.append(bytes((kind,)) + size + body)
    return b"".join(parts)


def change_code(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Change function bodies: other opcodes, constants, order; their lengths hold."""
    sections = split(module)
    places = [n for n, (kind, _) in enumerate(sections) if kind == CODE]
    found = bodies(sections[places[0]][1]) if places else []
    if not found:
        return module
    first, second = random.randrange(len(found)), random.randrange(len(found))
    body = found[first]
    match random.randrange(8):
        case 0:
            found[first], found[second] = found[second], found[first]
        case 1:
            found[first] = body[: random.randrange(len(body) + 1)] + b"\x0b"
        case 2:
            found[first] = _flip(body, random, 2)
        case 3:
            at = random.randrange(len(body) + 1)
            inserted = bytes(random.choice(_OPCODES) for _ in range(random.randint(1, 4)))
            found[first] = body[:at] + inserted + body[at:]
        case _:
            found[first] = _other_constant(body, random)
    sections[places[0]] = (CODE, code_section(found))
    return join(sections)


def _other_constant(body: bytes, random: Random) -> bytes:
    """Replace what follows an `i32.const`, an `i64.const`, a `br` or a load."""
    places = [at for at, byte in enumerate(body[:-1]) if byte in b"\x41\x42\x0c\x0d\x20\x28\x2d"]
    if not places:
        return body
    at = random.choice(places) + 1
    value = leb(random.choice((random.randrange(64), random.choice(_BOUNDS), 0x7F)))
    return body[:at] + value + body[read_leb(body, at)[1] :]


def change_data(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Change bytes of the data segments: still a valid module, most of the time."""
    sections = [
        (kind, _flip(body, random, 8) if kind == DATA else body) for kind, body in split(module)
    ]
    return join(sections)


def splice(module: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Put a piece of some module somewhere into this one."""
    source = random.choice((module, random.choice(others)))
    start = random.randrange(len(source) + 1)
    piece = source[start : start + random.randint(1, 64)]
    at = random.randrange(len(module) + 1)
    replaced = random.choice((0, len(piece)))
    return module[:at] + piece + module[at + replaced :]


def other_form(module: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Give something that is no core module: text, another header, plain noise."""
    match random.randrange(4):
        case 0:
            return random.choice(_TEXTS)
        case 1:
            return random.choice(_HEADERS) + module[len(HEADER) :]
        case 2:
            return random.choice((b"", HEADER)) + random.randbytes(random.randrange(200))
        case _:
            return bytes(random.choice((b"\n", b" ", b"\x00", b"#!"))) + module


STEPS: tuple[tuple[Step, int], ...] = (
    (flip_bytes, 3),
    (truncate, 2),
    (shuffle_sections, 3),
    (change_section, 5),
    (damage_length, 2),
    (change_code, 10),
    (change_data, 3),
    (splice, 2),
    (other_form, 1),
)
_FUNCTIONS = [step for step, _ in STEPS]
_SHARES = [share for _, share in STEPS]


def mutate(module: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Return the module with one to three things done to it."""
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        step = random.choices(_FUNCTIONS, _SHARES)[0]
        module = step(module, others, random)[:MAX_BYTES]
    return module
