"""Blobs: nothing is stored or handed out under a hash it does not have."""

from __future__ import annotations

import pytest

from protocol.codec import sha256
from storage.blobs import BlobStore
from storage.database import Column, Database, WriteBatch
from storage.errors import BlobDamagedError, BlobError


def test_put_get_delete(database: Database):
    blobs, digest = BlobStore(database), sha256(b"body")
    batch = WriteBatch()
    blobs.put(batch, digest, b"body")
    assert blobs.get(digest) is None
    database.write(batch)
    assert blobs.get(digest) == b"body"
    assert blobs.has(digest)
    batch = WriteBatch()
    blobs.delete(batch, digest)
    blobs.delete(batch, bytes(32))
    database.write(batch)
    assert blobs.get(digest) is None
    assert not blobs.has(digest)


def test_the_empty_blob(database: Database):
    blobs, batch = BlobStore(database), WriteBatch()
    blobs.put(batch, sha256(b""), b"")
    database.write(batch)
    assert blobs.get(sha256(b"")) == b""
    assert blobs.has(sha256(b""))


def test_a_wrong_hash_or_size_is_refused(database: Database):
    blobs, batch = BlobStore(database, max_bytes=10), WriteBatch()
    with pytest.raises(BlobError, match="expected 0000"):
        blobs.put(batch, bytes(32), b"body")
    with pytest.raises(BlobError, match="11 bytes, the limit is 10"):
        blobs.put(batch, sha256(b"x" * 11), b"x" * 11)
    assert len(batch) == 0


def test_damage_is_found_on_reading_and_can_be_mended(database: Database):
    blobs, digest = BlobStore(database), sha256(b"body")
    batch = WriteBatch()
    batch.put(Column.BLOBS, digest, b"bodx")
    database.write(batch)
    with pytest.raises(BlobDamagedError, match="fetch it again"):
        blobs.get(digest)
    batch = WriteBatch()
    blobs.put(batch, digest, b"body")
    database.write(batch)
    assert blobs.get(digest) == b"body"
