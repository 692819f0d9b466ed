"""Encryption at rest: secrets and sealed payloads, readable only with the node's storage key.

Rules:
1. XSalsa20-Poly1305 with a random nonce of 24 bytes: two seals of the same content differ.
2. What is encrypted begins with its *context*, the column and key it belongs to. A seal that
   somebody moved to another place therefore does not open there.
3. The key is derived from the node's keystore and never written (`validator_node.keys`). With
   another key, in another place, or damaged, nothing opens: `SealError`.
"""

from __future__ import annotations

from collections.abc import Iterator

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from protocol.codec import Record, decode, encode
from protocol.errors import DecodeError
from storage.database import Column, Database, WriteBatch
from storage.errors import SealError

KEY_BYTES = SecretBox.KEY_SIZE
MAX_SEALED_BYTES = 16 * 1024 * 1024 + 4096
"""The largest payload, and room for its context."""


class _Sealed(Record):
    context: bytes
    content: bytes


class Sealer:
    """Seals and opens under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SealError(f"storage key: {len(key)} bytes, expected {KEY_BYTES}")
        self._box = SecretBox(key)

    def seal(self, context: bytes, content: bytes) -> bytes:
        """Return `content` encrypted, to be opened in the same `context` only."""
        plain = encode(_Sealed(context=context, content=content))
        if len(plain) > MAX_SEALED_BYTES:
            raise SealError(f"sealing: {len(plain)} bytes, the limit is {MAX_SEALED_BYTES}")
        return bytes(self._box.encrypt(plain))

    def open(self, context: bytes, sealed: bytes) -> bytes:
        """Return what was sealed in this `context`. Raises `SealError` (rule 3)."""
        try:
            plain = self._box.decrypt(sealed)
            content = decode(_Sealed, plain, limit_bytes=MAX_SEALED_BYTES)
        except (CryptoError, DecodeError, ValueError, TypeError) as error:
            raise SealError(
                f"sealed data {context!r}: another storage key (was the keystore exchanged?), or "
                f"damaged on disk"
            ) from error
        if content.context != context:
            raise SealError(f"sealed data {context!r}: was sealed for {content.context!r}")
        return content.content


class SealedStore:
    """Sealed content by name, in a database."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def put(self, batch: WriteBatch, name: bytes, content: bytes) -> None:
        """Add `content`, sealed, to `batch`. Raises `SealError` when it is too large."""
        batch.put(Column.SEALED, name, self._sealer.seal(_context(name), content))

    def get(self, name: bytes, *, batch: WriteBatch | None = None) -> bytes | None:
        """Return the content under `name`, or None. Raises `SealError`."""
        sealed = self._database.get(Column.SEALED, name, batch=batch)
        return None if sealed is None else self._sealer.open(_context(name), sealed)

    def delete(self, batch: WriteBatch, name: bytes) -> None:
        """Remove `name` when `batch` is written; one not there is no error."""
        batch.delete(Column.SEALED, name)

    def names(self, prefix: bytes = b"") -> Iterator[bytes]:
        """Yield the names in use that begin with `prefix`; names are not secret."""
        return (name for name, _ in self._database.iterate(Column.SEALED, prefix))


def _context(name: bytes) -> bytes:
    return Column.SEALED + name
