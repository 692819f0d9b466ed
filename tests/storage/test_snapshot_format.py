"""The cut of a state into chunks, and what a chunk must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import encode, sha256
from storage.errors import SnapshotError
from storage.snapshot_format import (
    CHUNK_BYTES,
    MAX_CHUNK_BYTES,
    ChunkBody,
    SnapshotChunk,
    StatePair,
    cut,
    read_body,
)
from storage.state import MAX_KEY_BYTES, MAX_VALUE_BYTES

sizes = st.one_of(st.integers(0, 300), st.integers(65_000, 66_000), st.just(MAX_VALUE_BYTES))


def chunk_of(data: bytes) -> SnapshotChunk:
    return SnapshotChunk(digest=sha256(data), size=len(data))


@given(st.lists(sizes, max_size=12))
def test_a_chunk_ends_with_the_pair_that_reaches_the_size(lengths: list[int]):
    rows = [(b"%05d" % number, bytes(length)) for number, length in enumerate(lengths)]
    chunks = list(cut(iter(rows)))
    bodies = [read_body(chunk_of(data), data) for data, _ in chunks]
    assert [(p.key, p.value) for body in bodies for p in body.pairs] == rows
    assert [count for _, count in chunks] == [len(body.pairs) for body in bodies]
    for number, body in enumerate(bodies):
        size = [len(encode(pair)) for pair in body.pairs]
        assert sum(size[:-1]) < CHUNK_BYTES
        assert sum(size) >= CHUNK_BYTES or number == len(bodies) - 1


def test_the_largest_chunk_is_within_the_limit():
    rows = [(b"%07d" % number, b"") for number in range(43_690)]  # 8 bytes short of the cut
    rows.append((b"x" * MAX_KEY_BYTES, bytes(MAX_VALUE_BYTES)))
    [(data, pairs)] = cut(rows)
    assert pairs == 43_691
    assert CHUNK_BYTES + MAX_VALUE_BYTES < len(data) <= MAX_CHUNK_BYTES
    assert len(read_body(chunk_of(data), data).pairs) == pairs


def test_the_same_state_is_cut_alike():
    rows = [(b"%06d" % number, b"v" * 100) for number in range(20_000)]
    first, second = list(cut(rows)), list(cut(iter(rows)))
    assert first == second
    assert len(first) == 5


@pytest.mark.parametrize("keys", [(b"a", b"a"), (b"b", b"a"), (b"",)])
def test_keys_ascend(keys: tuple[bytes, ...]):
    with pytest.raises(SnapshotError, match="does not follow"):
        list(cut([(key, b"") for key in keys]))


def test_an_empty_state_has_no_chunks():
    assert list(cut([])) == []


def test_another_hash_size_or_form_is_refused():
    data = encode(ChunkBody(pairs=(StatePair(key=b"k", value=b"v"),)))
    chunk = chunk_of(data)
    assert read_body(chunk, data).pairs[0].key == b"k"
    for other in (data + b"\0", data[:-1], b"", data[:-1] + b"w"):
        with pytest.raises(SnapshotError, match=chunk.digest.hex()):
            read_body(chunk, other)
    for other in (b"", b"\x91\x90", b"\xc0", data + b"\0", encode([[[b"", b"v"]]])):
        with pytest.raises(SnapshotError):
            read_body(chunk_of(other), other)
    long = encode([[[b"k", bytes(MAX_VALUE_BYTES + 1)]]])
    with pytest.raises(SnapshotError):
        read_body(chunk_of(long), long)
