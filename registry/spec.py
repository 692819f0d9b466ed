"""``platform.toml``: what an author states about a challenge, and what the network signs.

Rules:

- Closed by default: an unknown key is an error, an empty ``host_functions`` allows nothing.
- Strict: no value is converted. Numbers are integers, so that every encoding of a spec is exact;
  ``params`` (handed to the module as they are) hold integers, booleans and strings only.
- Bounds are those every validator enforces anyway; a spec outside them could never be admitted.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from protocol.records.challenge_storage import MAX_WRITTEN_BYTES
from protocol.text import TextError, decode_text
from registry.errors import SpecError

#: Functions a module may import from the namespace ``platform``.
MAX_SPEC_BYTES = 1024 * 1024
HOST_FUNCTIONS = (
    "data_get",
    "log",
    "random",
    "sha256",
    "storage_get",
    "storage_put",
    "time_ms",
)

MAX_FUEL = 100_000_000_000  # above it, no validator would finish before its local deadline
MAX_MEMORY_PAGES = 1024  # 64 MiB, the engine's limit
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # copied in or out of the sandbox in one piece
MAX_LOG_LINES = 1000
MAX_EMISSION_PARTS = 1_000_000
MAX_PARAMS = 64
MAX_PARAM_CHARACTERS = 1024

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


def _known_functions(functions: tuple[str, ...]) -> tuple[str, ...]:
    for name in functions:
        if name not in HOST_FUNCTIONS:
            raise ValueError(f"{name!r} is no host function; there are {', '.join(HOST_FUNCTIONS)}")
    return _distinct(functions)


def _distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    for i, item in enumerate(items):
        if item in items[:i]:
            raise ValueError(f"{item!r} is listed twice")
    return items


def _param(value: object) -> object:
    # one check with one message; a union would report a refusal for each of its members
    if not isinstance(value, bool | int | str):
        raise ValueError("an integer, a boolean or a string was expected")  # noqa: TRY004 - pydantic
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer of 64 signed bits was expected")
    if isinstance(value, str) and len(value) > MAX_PARAM_CHARACTERS:
        raise ValueError(f"at most {MAX_PARAM_CHARACTERS} characters were expected")
    return value


ParamValue = Annotated[bool | int | str, BeforeValidator(_param)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Policy(_Model):
    """The limits one evaluation runs under, the same on every validator.

    Attributes:
        fuel: engine fuel of one evaluation.
        memory_pages: linear memory, in pages of 64 KiB.
        max_input_bytes: the longest submission body.
        max_output_bytes: the encoded output.
        max_log_lines: calls of ``platform.log``.
        host_functions: the functions the module may import; empty allows none.
        data_keys: the data blobs ``data_get`` may read, files of ``data/blobs``.
        storage_bytes: what ``storage_put`` may write in one evaluation.
    """

    fuel: int = Field(ge=1, le=MAX_FUEL)
    memory_pages: int = Field(ge=1, le=MAX_MEMORY_PAGES)
    max_input_bytes: int = Field(ge=1, le=MAX_MESSAGE_BYTES)
    max_output_bytes: int = Field(ge=1, le=MAX_MESSAGE_BYTES)
    max_log_lines: int = Field(ge=0, le=MAX_LOG_LINES)
    host_functions: Annotated[
        tuple[str, ...], Field(strict=False), AfterValidator(_known_functions)
    ]
    data_keys: Annotated[
        tuple[Identifier, ...], Field(strict=False, max_length=64), AfterValidator(_distinct)
    ] = ()
    storage_bytes: int = Field(default=0, ge=0, le=MAX_WRITTEN_BYTES)


class Build(_Model):
    """How the module was built; ``validator-node challenge build`` writes what is empty at first.

    Attributes:
        language: of the source.
        toolchain: the compiler and its version.
        module_sha256: what the build made.
        sources_sha256: what it was made from.
    """

    language: str = Field(min_length=1, max_length=32)
    toolchain: str = Field(default="", max_length=200)
    module_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    sources_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")


class ChallengeSpec(_Model):
    """One version of a challenge, as its author describes it.

    Attributes:
        id: the challenge's name on the network.
        version: counts from 1; another module or policy needs another version.
        title: a few words for people.
        description: one or two sentences for people.
        emission: the challenge's parts of the mechanism's emission; its share is its parts over
            the sum of all active challenges' parts.
        policy: the limits of one evaluation.
        params: constants handed to the module with every submission (read-only).
        build: how the module beside the file was made; nothing on the network depends on it.
    """

    id: Identifier
    version: int = Field(ge=1, lt=2**31)
    title: str = Field(min_length=1, max_length=80)
    description: str = Field(min_length=1, max_length=1000)
    emission: int = Field(ge=0, le=MAX_EMISSION_PARTS)
    policy: Policy
    params: Mapping[Identifier, ParamValue] = Field(default_factory=dict, max_length=MAX_PARAMS)
    build: Build | None = None


def _first(path: Path, error: ValidationError) -> SpecError:
    """Tell the first violation, in the words of the file."""
    detail = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    if detail["type"] == "extra_forbidden":
        return SpecError(path, field, "this field is unknown")
    if detail["type"] == "missing":
        return SpecError(path, field, "this field is missing")
    shown = repr(detail["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    words = detail["msg"].removeprefix("Value error, ")
    return SpecError(path, field, f"{words}, found {shown}")


def parse_spec(text: str, path: Path) -> ChallengeSpec:
    """Parse the spec written in `text`; `path` is what errors name.

    Raises:
        SpecError: the text is not TOML or breaks a rule.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML, or beyond Python's limits
        raise SpecError(path, "", f"valid TOML was expected: {error}") from None
    try:
        return ChallengeSpec.model_validate(table)
    except ValidationError as error:
        raise _first(path, error) from None


def load_spec(path: Path) -> ChallengeSpec:
    """Read a ``platform.toml``.

    Raises:
        SpecError: the file cannot be read, is not UTF-8 TOML, or breaks a rule.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
        if len(data) > MAX_SPEC_BYTES:
            raise SpecError(path, "", f"at most {MAX_SPEC_BYTES:,} bytes were expected")
        text = decode_text(data)
    except OSError as error:
        raise SpecError(path, "", f"a readable file was expected: {error.strerror}") from None
    except TextError as error:
        raise SpecError(path, "", str(error)) from None
    return parse_spec(text, path)
