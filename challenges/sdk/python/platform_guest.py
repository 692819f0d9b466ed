"""What a Python challenge works with: its input, its answer, and MessagePack.

Rules:

- This module runs inside the component, under the CPython that componentize-py brings. Whatever a
  challenge imports must be imported at the top level: there are no files at run time.
- Input, submission and output cross the component's border as text of one character a byte
  (Latin-1), questions and transcripts as JSON.
- `accept` and `refuse` make an output the validators take: bounds kept, metrics sorted.
"""

from __future__ import annotations

import functools
import json
import struct
from dataclasses import dataclass
from typing import Any

MAX_SCORE = 1_000_000
MAX_MESSAGE_CHARS = 1_024
_BIG, _FLOAT = (">B", ">H", ">I", ">Q"), {0xCA: ">f", 0xCB: ">d"}
_SIGNED = (">b", ">h", ">i", ">q")


@dataclass(frozen=True)
class Input:
    """One evaluation as the network fixed it."""

    submission: bytes
    miner: bytes
    challenge_id: str
    version: int
    params: dict[str, object]
    epoch: int
    height: int
    time_ms: int
    seed: bytes

    def number(self, name: str) -> int:
        """Return the integer parameter `name`. Raises `ValueError` when there is none."""
        value = self.params.get(name)
        if type(value) is not int:
            raise ValueError(f"parameter {name!r}: an integer was expected, not {value!r}")
        return value

    def text(self, name: str) -> str:
        """Return the text parameter `name`. Raises `ValueError` when there is none."""
        value = self.params.get(name)
        if not isinstance(value, str):
            raise ValueError(f"parameter {name!r}: a text was expected, not {value!r}")  # noqa: TRY004
        return value


@dataclass(frozen=True)
class Output:
    """What a challenge answers."""

    score: int
    valid: bool
    message: str
    metrics: dict[str, int]


@dataclass(frozen=True)
class Step:
    """How a call into the submission's instance ended: `ok`, `trap`, `out_of_fuel`, `too_long`."""

    ending: str
    fuel: int
    text: str


@dataclass(frozen=True)
class Transcript:
    """What the host saw in the submission's instance."""

    load: Step
    questions: list[str]
    answers: list[Step]


def accept(score: int, message: str = "", metrics: dict[str, int] | None = None) -> Output:
    """Return the answer to a valid submission; `score` is brought into 0..1,000,000."""
    return Output(min(max(score, 0), MAX_SCORE), True, message, metrics or {})


def refuse(message: str) -> Output:
    """Return the answer to an invalid submission: what was wrong, and where."""
    return Output(0, False, message, {})


@functools.lru_cache(maxsize=1)
def read_input(text: str) -> Input:
    """Return the input of `evaluate`, `questions` and `score`."""
    table = unpack(text.encode("latin-1"))
    challenge, context = table["challenge"], table["context"]
    return Input(
        submission=table["submission"],
        miner=table["miner"],
        challenge_id=challenge["id"],
        version=challenge["version"],
        params=challenge["params"],
        epoch=context["epoch"],
        height=context["height"],
        time_ms=context["time_ms"],
        seed=context["seed"],
    )


def read_transcript(text: str) -> Transcript:
    """Return the transcript that `score` gets."""
    table = json.loads(text)
    steps = [Step(**step) for step in (table["load"], *table["answers"])]
    return Transcript(steps[0], table["questions"], steps[1:])


def write_output(output: Output) -> str:
    """Return an output as the host reads it. Raises `TypeError` for what is not made so."""
    _check(output)
    message = output.message[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
    metrics = dict(sorted(output.metrics.items(), key=lambda item: item[0].encode()))
    fields = {"score": output.score, "valid": output.valid, "message": message}
    return pack(fields | {"metrics": metrics}).decode("latin-1")


def _check(output: object) -> None:
    if not isinstance(output, Output):
        raise TypeError(f"what accept or refuse returns was expected, not {output!r}")
    if type(output.score) is not int:
        raise TypeError(f"score: an integer was expected, not {output.score!r}")
    if type(output.valid) is not bool:
        raise TypeError(f"valid: True or False was expected, not {output.valid!r}")
    if not isinstance(output.message, str):
        raise TypeError(f"message: a text was expected, not {output.message!r}")
    if not isinstance(output.metrics, dict):
        raise TypeError(f"metrics: a dict was expected, not {output.metrics!r}")
    for name, value in output.metrics.items():
        if not isinstance(name, str) or type(value) is not int:
            raise TypeError(f"metrics: an integer for a name was expected, not {name!r}: {value!r}")


def write_questions(questions: list[str], fuel: int) -> str:
    """Return questions as the host reads them; `fuel` is what each answer may burn."""
    return json.dumps({"fuel": fuel, "questions": questions})


def pack(value: object) -> bytes:
    """Encode None, booleans, integers, texts, bytes, lists and maps in their shortest form."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, str):
        data = value.encode()
        return _head(len(data), 0xA0, 32, 0xD9, 0xDA, 0xDB) + data
    if isinstance(value, bytes):
        return _head(len(value), 0, 0, 0xC4, 0xC5, 0xC6) + value
    if isinstance(value, list | tuple):
        return _head(len(value), 0x90, 16, 0, 0xDC, 0xDD) + b"".join(map(pack, value))
    if isinstance(value, dict):
        items = (pack(key) + pack(entry) for key, entry in value.items())
        return _head(len(value), 0x80, 16, 0, 0xDE, 0xDF) + b"".join(items)
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def unpack(data: bytes) -> dict[str, Any]:
    """Decode one MessagePack map. Raises `ValueError`, `IndexError` and `struct.error`."""
    value, end = _unpack(data, 0)
    if end != len(data) or not isinstance(value, dict):
        raise ValueError("one map was expected")
    return value


def _head(size: int, fix: int, fix_limit: int, one: int, two: int, four: int) -> bytes:
    if size < fix_limit:
        return bytes((fix | size,))
    if size < 1 << 8 and one:
        return bytes((one, size))
    if size < 1 << 16:
        return bytes((two,)) + size.to_bytes(2, "big")
    return bytes((four,)) + size.to_bytes(4, "big")


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    for step in range(4):
        bits = 8 << step
        if 0 <= value < 1 << bits:
            return bytes((0xCC + step,)) + struct.pack(_BIG[step], value)
        if -(1 << (bits - 1)) <= value < 0:
            return bytes((0xD0 + step,)) + struct.pack(_SIGNED[step], value)
    raise ValueError(f"{value} does not fit 64 bits")


def _unpack(data: bytes, at: int) -> tuple[object, int]:
    head = data[at]
    at += 1
    if head < 0x80 or head >= 0xE0:
        return (head if head < 0x80 else head - 256), at
    if head < 0x90:
        return _unpack_map(data, at, head & 15)
    if head < 0xA0:
        return _unpack_list(data, at, head & 15)
    if head < 0xC0:
        return _unpack_text(data, at, head & 31)
    if head in _CONSTANTS:
        return _CONSTANTS[head], at
    if head in _FLOAT:
        return struct.unpack_from(_FLOAT[head], data, at)[0], at + (4 if head == 0xCA else 8)
    if 0xCC <= head <= 0xD3:
        form = (_BIG + _SIGNED)[head - 0xCC]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    return _unpack_sized(data, at, head)


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _unpack_sized(data: bytes, at: int, head: int) -> tuple[object, int]:
    for heads, read in _SIZED:
        if head in heads:
            wide = 1 << (heads.index(head) + (2 + 1 - len(heads)))
            return read(data, at + wide, int.from_bytes(data[at : at + wide], "big"))
    raise ValueError(f"byte {head:#x} is not used here")


def _unpack_bytes(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise ValueError("the data ends too early")
    return data[at : at + size], at + size


def _unpack_text(data: bytes, at: int, size: int) -> tuple[str, int]:
    found, end = _unpack_bytes(data, at, size)
    return found.decode(), end


def _unpack_list(data: bytes, at: int, size: int) -> tuple[list[object], int]:
    found: list[object] = []
    for _ in range(size):
        value, at = _unpack(data, at)
        found.append(value)
    return found, at


def _unpack_map(data: bytes, at: int, size: int) -> tuple[dict[object, object], int]:
    found: dict[object, object] = {}
    for _ in range(size):
        key, at = _unpack(data, at)
        found[key], at = _unpack(data, at)
    return found, at


_SIZED = (
    ((0xC4, 0xC5, 0xC6), _unpack_bytes),
    ((0xD9, 0xDA, 0xDB), _unpack_text),
    ((0xDC, 0xDD), _unpack_list),
    ((0xDE, 0xDF), _unpack_map),
)
