"""A module's test vectors: inputs and the outcome every validator must find.

``vectors.json`` lies beside the module. Before a module is activated each validator runs them
(a determinism canary), so they state whole outputs, not ranges. Bytes are written in hex.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgpack
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from registry.spec import ChallengeSpec

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
    return bytes.fromhex(value) if isinstance(value, str) else value


Hex = Annotated[bytes, BeforeValidator(_unhex), PlainSerializer(bytes.hex)]
Hash = Annotated[Hex, Field(min_length=32, max_length=32)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Context(_Model):
    """What consensus fixes about an evaluation: never a local clock."""

    epoch: int = Field(ge=0)
    height: int = Field(ge=0)
    time_ms: int = Field(ge=0)
    seed: Hash


class Output(_Model):
    """What the module returns; the fields are in the order of the encoded map."""

    score: int = Field(ge=0, le=1_000_000)
    valid: bool
    message: str
    metrics: dict[str, int]


class Vector(_Model):
    """One evaluation and its outcome; `output` is None for every class but ``ok``."""

    name: str
    submission: Hex
    miner: Hash
    context: Context
    expected: OutcomeClass
    output: Output | None


class VectorFile(_Model):
    """The content of a ``vectors.json``."""

    challenge: str
    version: int
    vectors: tuple[Vector, ...] = Field(strict=False)


def load_vectors(path: Path) -> tuple[Vector, ...]:
    """Read a ``vectors.json``.

    Raises:
        pydantic.ValidationError: the file has not the form of a `VectorFile`.
    """
    return VectorFile.model_validate(json.loads(path.read_text(encoding="utf-8"))).vectors


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
