"""Encryption at rest: opens with the right key in the right place, and not otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Column, Database, WriteBatch
from storage.errors import SealError
from storage.sealing import MAX_SEALED_BYTES, SealedStore, Sealer

KEY = bytes(range(32))
SEALER = Sealer(KEY)


def stored(database: Database, name: bytes, content: bytes) -> SealedStore:
    store, batch = SealedStore(database, SEALER), WriteBatch()
    store.put(batch, name, content)
    assert store.get(name) is None
    assert store.get(name, batch=batch) == content
    database.write(batch)
    return store


@given(st.binary(max_size=64), st.binary(max_size=256))
def test_what_is_sealed_opens(context: bytes, content: bytes):
    sealed = SEALER.seal(context, content)
    assert Sealer(KEY).open(context, sealed) == content
    assert SEALER.seal(context, content) != sealed
    assert len(content) < 8 or content not in sealed


@given(st.binary(max_size=64), st.data())
def test_a_changed_bit_opens_nothing(content: bytes, data: st.DataObject):
    sealed = bytearray(SEALER.seal(b"c", content))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealError, match="damaged"):
        SEALER.open(b"c", bytes(sealed))


@given(st.binary(max_size=80))
def test_foreign_bytes_open_nothing(data: bytes):
    with pytest.raises(SealError):
        SEALER.open(b"c", data)


def test_another_key_opens_nothing():
    with pytest.raises(SealError, match="another storage key"):
        Sealer(bytes(32)).open(b"c", SEALER.seal(b"c", b"content"))


def test_another_place_opens_nothing(database: Database):
    store = stored(database, b"name", b"content")
    sealed = database.get(Column.SEALED, b"name")
    assert sealed is not None
    batch = WriteBatch()
    batch.put(Column.SEALED, b"moved", sealed)
    database.write(batch)
    with pytest.raises(SealError, match="was sealed for"):
        store.get(b"moved")
    assert store.get(b"name") == b"content"


def test_a_column_of_secrets(database: Database):
    store = stored(database, b"api/token", b"secret")
    stored(database, b"other", b"")
    assert store.get(b"unknown") is None
    assert list(store.names()) == [b"api/token", b"other"]
    assert list(store.names(b"api/")) == [b"api/token"]
    row = database.get(Column.SEALED, b"api/token")
    assert row is not None
    assert b"secret" not in row
    batch = WriteBatch()
    store.delete(batch, b"api/token")
    database.write(batch)
    assert store.get(b"api/token") is None


def test_bounds():
    for size in (0, 31, 33):
        with pytest.raises(SealError, match=f"{size} bytes, expected 32"):
            Sealer(bytes(size))
    with pytest.raises(SealError, match="the limit is"):
        SEALER.seal(b"", bytes(MAX_SEALED_BYTES))
