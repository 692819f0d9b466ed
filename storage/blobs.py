"""Bodies by the hash of their content: submissions, modules, audit records.

Rules:
1. The key is the sha256 of the content. `put` refuses content with another hash, and `get` hashes
   again, so nothing is ever handed out under a wrong name.
2. A blob has at most `max_bytes`; larger content is split by whoever stores it.
3. A damaged blob can be fetched again from a peer: `BlobDamagedError` says so, `put` replaces it.
"""

from __future__ import annotations

from protocol.codec import sha256
from storage.database import Column, Database, WriteBatch
from storage.errors import BlobDamagedError, BlobError

MAX_BLOB_BYTES = 16 * 1024 * 1024
"""The longest submission body of the protocol; modules are shorter."""


class BlobStore:
    """The blobs of a database."""

    def __init__(self, database: Database, *, max_bytes: int = MAX_BLOB_BYTES) -> None:
        self._database = database
        self._max_bytes = max_bytes

    def put(self, write_batch: WriteBatch, digest: bytes, content: bytes) -> None:
        """Add `content`, whose sha256 is `digest`, to `write_batch`.

        It can be read once the batch is written. Raises `BlobError` for a wrong hash or size.
        """
        if len(content) > self._max_bytes:
            raise BlobError(f"blob: {len(content)} bytes, the limit is {self._max_bytes}")
        actual = sha256(content)
        if actual != digest:
            raise BlobError(f"blob: content hashes to {actual.hex()}, expected {digest.hex()}")
        write_batch.put(Column.BLOBS, digest, content)

    def get(self, digest: bytes) -> bytes | None:
        """Return the content with this sha256, or None. Raises `BlobDamagedError` (rule 3)."""
        content = self._database.get(Column.BLOBS, digest)
        if content is not None and sha256(content) != digest:
            raise BlobDamagedError(f"blob {digest.hex()}: damaged on disk, fetch it again")
        return content

    def has(self, digest: bytes) -> bool:
        """Return whether a blob is stored under `digest`, without checking it."""
        return self._database.get(Column.BLOBS, digest) is not None

    def delete(self, write_batch: WriteBatch, digest: bytes) -> None:
        """Remove the blob when `write_batch` is written; one not there is no error."""
        write_batch.delete(Column.BLOBS, digest)
