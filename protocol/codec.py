"""The canonical codec: one value has one encoding, and only that encoding is read.

Rules:
1. What travels or is hashed is a `Record`: a frozen struct, encoded as a MessagePack array of its
   fields in the declared order. Members of a tagged union carry their tag as the first element.
2. Decoding is strict: unknown tags, missing or additional elements, wrong types, over-long values
   and trailing bytes are refused.
3. MessagePack lets a writer choose between forms (the integer 1 as one byte or nine). A decoder
   that accepts them all would give one value several hashes, so `decode` encodes the value again
   and refuses input that differs by a byte.
4. Lengths and bounds are part of a field's type (`Digest`, `U64`, ...), so that no record that
   breaks them ever exists on the receiving side.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeVar, dataclass_transform, overload

import msgspec
from msgspec import Meta as Meta  # re-exported: bounds are part of the words

from protocol.errors import DecodeError, TooLargeError

U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
U64 = Annotated[int, Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]
"""Counters, heights and weights: unsigned and below 2**63, so that every language can hold them."""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*\Z")]
"""A short machine-readable name, such as a challenge id."""

DEFAULT_LIMIT_BYTES = 4 * 1024 * 1024
ZERO_DIGEST = bytes(32)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    kw_only=True,
    cache_hash=True,
):
    """Base of everything that is hashed, signed or sent. See the module's rules."""


R = TypeVar("R")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(value: object) -> bytes:
    """Return the canonical bytes of `value`, a `Record` or a plain list of them."""
    return _encoder.encode(value)


@overload
def decode(kind: type[R], data: bytes, *, limit_bytes: int = ...) -> R: ...
@overload
def decode(kind: Any, data: bytes, *, limit_bytes: int = ...) -> Any: ...  # noqa: ANN401 - unions
def decode(kind: Any, data: bytes, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Any:
    """Return the value of type `kind` that `data` is the canonical encoding of.

    Raises `TooLargeError` beyond `limit_bytes`, and `DecodeError` for everything else that is not
    exactly what `encode` would have written.
    """
    if len(data) > limit_bytes:
        raise TooLargeError(f"{_name(kind)}: {len(data)} bytes, the limit is {limit_bytes}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders.setdefault(kind, msgspec.msgpack.Decoder(kind))
    try:
        value = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"{_name(kind)}: {error}") from error
    if _encoder.encode(value) != data:
        raise DecodeError(
            f"{_name(kind)}: not the canonical encoding (a longer form of a value was used)"
        )
    return value


def _name(kind: object) -> str:
    return getattr(kind, "__name__", None) or str(kind)


def sha256(*parts: bytes) -> bytes:
    """Return the SHA-256 digest of the concatenated `parts`."""
    digest = hashlib.sha256(parts[0] if parts else b"")
    for part in parts[1:]:
        digest.update(part)
    return digest.digest()


def digest_of(record: Record) -> bytes:
    """Return the SHA-256 digest of a record's canonical bytes."""
    return sha256(encode(record))
