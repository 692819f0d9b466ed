"""A module's test vectors: inputs and the outcome every validator must find.

``vectors.json`` lies beside the module. Before a module is activated each validator runs them
(a determinism canary), so they state whole outputs, not ranges. Bytes are written in hex; a
submission may be written as ``text:`` and the text, too. ``miner`` and ``context`` may be left out:
they are zeros then.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgpack
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)

from challenges.errors import MistakeError
from challenges.project import explain
from protocol.text import decode_text
from registry.spec import ChallengeSpec

MAX_VECTORS_BYTES = 64 * 1024 * 1024
TEXT_PREFIX = "text:"
_PAYLOAD_FORMS = "bytes in hex, or 'text:' and the text"

#: The classes an evaluation's outcome can have.
OutcomeClass = Literal[
    "ok",
    "out_of_fuel",
    "trap",
    "memory_limit",
    "output_limit",
    "bad_output",
    "host_limit",
    "missing_export",
    "invalid_module",
]


def _unhex(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise ValueError("bytes in hex, two digits each") from None


def _read_payload(value: object) -> object:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError(_PAYLOAD_FORMS)  # noqa: TRY004 - pydantic
    if value.startswith(TEXT_PREFIX):
        return value.removeprefix(TEXT_PREFIX).encode()
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise ValueError(_PAYLOAD_FORMS) from None


def _show_payload(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return TEXT_PREFIX + text if text and text.isprintable() else value.hex()


Hex = Annotated[bytes, BeforeValidator(_unhex), PlainSerializer(bytes.hex)]
Payload = Annotated[bytes, BeforeValidator(_read_payload), PlainSerializer(_show_payload)]
Hash = Annotated[Hex, Field(min_length=32, max_length=32)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Context(_Model):
    """What consensus fixes about an evaluation: never a local clock."""

    epoch: int = Field(ge=0)
    height: int = Field(ge=0)
    time_ms: int = Field(ge=0)
    seed: Hash


NOWHERE = Context(epoch=0, height=0, time_ms=0, seed=bytes(32))
"""The context of a vector that names none."""


class Output(_Model):
    """What the module returns; the fields are in the order of the encoded map."""

    score: int = Field(ge=0, le=1_000_000)
    valid: bool
    message: str
    metrics: dict[str, int]


class Vector(_Model):
    """One evaluation and its outcome; `output` is None for every class but ``ok``."""

    name: str = Field(min_length=1, max_length=80)
    submission: Payload
    miner: Hash = bytes(32)
    context: Context = NOWHERE
    expected: OutcomeClass
    output: Output | None


class VectorFile(_Model):
    """The content of a ``vectors.json``."""

    challenge: str
    version: int
    vectors: tuple[Vector, ...] = Field(strict=False)


def load_vectors(path: Path) -> tuple[Vector, ...]:
    """Read the vectors of a ``vectors.json``. Raises `MistakeError`."""
    return load_vector_file(path).vectors


def load_vector_file(path: Path) -> VectorFile:
    """Read a ``vectors.json``. Raises `MistakeError` for its first mistake."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_VECTORS_BYTES + 1)
    except OSError as error:
        words = error.strerror or "no file"
        raise MistakeError(
            path, words, "test vectors", "Write some; docs/challenges.md shows the form."
        ) from None
    if len(data) > MAX_VECTORS_BYTES:
        limit = f"{MAX_VECTORS_BYTES} bytes at most"
        raise MistakeError(path, "a larger file", limit, "Drop some vectors.")
    try:
        table = json.loads(decode_text(data))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested too deep
        raise MistakeError(path, str(error), "valid JSON", "Correct the line.") from None
    if not isinstance(table, dict):
        raise MistakeError(
            path,
            "a list" if isinstance(table, list) else f"{json.dumps(table)[:40]}",
            'an object with "challenge", "version" and "vectors"',
            'Put the list behind "vectors"; docs/challenges.md shows the form.',
        )
    try:
        found = VectorFile.model_validate(table)
    except ValidationError as error:
        raise explain(path, error, "Correct the vector.") from None
    seen: set[str] = set()
    for vector in found.vectors:
        if vector.name in seen:
            raise MistakeError(path, f"{vector.name!r} twice", "one vector a name", "Rename one.")
        seen.add(vector.name)
        if (vector.output is not None) != (vector.expected == "ok"):
            raise MistakeError(
                f"{path}: {vector.name}",
                f"expected {vector.expected!r} {'with' if vector.output else 'without'} an output",
                "an output if, and only if, the outcome class is 'ok'",
                "Correct the vector.",
            )
    return found


def save_vector_file(path: Path, file: VectorFile) -> None:
    """Write a ``vectors.json``: a field a line, nothing that is left out when it is zeros.

    So a changed score is a change of one line.
    """
    vectors = []
    for vector in file.vectors:
        table = vector.model_dump(mode="json", exclude_defaults=True)
        fields = [f"   {_json(name)}: {_json(value)}" for name, value in table.items()]
        vectors.append("  {\n" + ",\n".join(fields) + "\n  }")
    head = f' "challenge": {_json(file.challenge)},\n "version": {_json(file.version)}'
    body = ",\n".join(vectors)
    path.write_text(f'{{\n{head},\n "vectors": [\n{body}\n ]\n}}\n', encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def encode_input(spec: ChallengeSpec, submission: bytes, miner: bytes, context: Context) -> bytes:
    """Encode the input map of ``evaluate`` in MessagePack."""
    about: Mapping[str, object] = {
        "id": spec.id,
        "version": spec.version,
        "params": dict(spec.params),
    }
    return bytes(
        msgpack.packb(
            {
                "submission": submission,
                "miner": miner,
                "challenge": about,
                "context": context.model_dump() | {"seed": context.seed},
            },
            use_bin_type=True,
        )
    )
