"""The form of a snapshot: chunks of pairs, and the manifest that lists them.

Rules:
1. The cut is fixed, so that every honest node makes the same manifest of the same state. The pairs
   stand in key order. A chunk ends with the pair with which the encoded pairs in it reach
   `CHUNK_BYTES`; only the last one is smaller. A chunk is the canonical `ChunkBody`; its hash and
   length stand in the manifest, whose own hash names the snapshot.
2. A manifest proves nothing. Whoever installs it has a certified root, and believes only what
   hashes to that. One that breaks rule 1 is refused before anything of it is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from msgspec import Meta

from protocol.codec import U32, U64, Digest, Record, decode, digest_of, encode, sha256
from protocol.errors import DecodeError
from storage.errors import SnapshotError
from storage.state import MAX_KEY_BYTES, MAX_VALUE_BYTES
from storage.write_batch import Pair

CHUNK_BYTES = 512 * 1024
MAX_CHUNK_BYTES = 1024 * 1024
"""More than the largest chunk: one byte less than `CHUNK_BYTES`, the largest pair, the framing."""
MAX_CHUNKS = 65_536
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


class SnapshotChunk(Record):
    """One chunk by the hash of its bytes."""

    digest: Digest
    size: U32
    """Bytes."""


class SnapshotManifest(Record):
    """What a snapshot consists of."""

    seq: U64
    """The slot after which this was the state."""
    state_root: Digest
    pairs: U64
    size: U64
    """Bytes of all chunks."""
    chunks: Annotated[tuple[SnapshotChunk, ...], Meta(max_length=MAX_CHUNKS)]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes; names the snapshot."""
        return digest_of(self)


class StatePair(Record):
    """A key of the state and its value."""

    key: Annotated[bytes, Meta(min_length=1, max_length=MAX_KEY_BYTES)]
    value: Annotated[bytes, Meta(max_length=MAX_VALUE_BYTES)]


class ChunkBody(Record):
    """The content of a chunk."""

    pairs: Annotated[tuple[StatePair, ...], Meta(min_length=1)]


def cut(rows: Iterable[Pair]) -> Iterator[tuple[bytes, int]]:
    """Yield the chunks of a state, as bytes and number of pairs (rule 1).

    Raises `SnapshotError` unless the keys strictly ascend.
    """
    pairs: list[StatePair] = []
    size, last = 0, b""
    for key, value in rows:
        if key <= last:
            raise SnapshotError(f"snapshot: key {key.hex()} does not follow {last.hex()}")
        last = key
        pairs.append(StatePair(key=key, value=value))
        size += _encoded_size(key, value)
        if size >= CHUNK_BYTES:
            yield encode(ChunkBody(pairs=tuple(pairs))), len(pairs)
            pairs, size = [], 0
    if pairs:
        yield encode(ChunkBody(pairs=tuple(pairs))), len(pairs)


def manifest_of(
    seq: int, state_root: bytes, chunks: Iterable[tuple[SnapshotChunk, int]]
) -> SnapshotManifest:
    """Return the manifest over `chunks`, each with its number of pairs."""
    held: list[SnapshotChunk] = []
    total = 0
    for chunk, pairs in chunks:
        held.append(chunk)
        total += pairs
        if len(held) > MAX_CHUNKS:
            raise SnapshotError(f"snapshot: the state needs more than {MAX_CHUNKS} chunks")
    return SnapshotManifest(
        seq=seq,
        state_root=state_root,
        pairs=total,
        size=sum(chunk.size for chunk in held),
        chunks=tuple(held),
    )


def check_shape(manifest: SnapshotManifest) -> None:
    """Raise `SnapshotError` for a manifest that cannot be of any state, whatever its chunks hold.

    It bounds what a forged one can make its reader fetch: `size` is what the chunks are, no chunk
    comes twice, and all but the last one are as long as the cut makes them.
    """
    name = f"manifest of slot {manifest.seq}"
    sizes = [chunk.size for chunk in manifest.chunks]
    if sum(sizes) != manifest.size:
        raise SnapshotError(f"{name}: chunks of {sum(sizes)} bytes, it says {manifest.size}")
    if len({chunk.digest for chunk in manifest.chunks}) != len(sizes):
        raise SnapshotError(f"{name}: a chunk is listed twice")
    if any(size < CHUNK_BYTES for size in sizes[:-1]) or (sizes and not sizes[-1]):
        raise SnapshotError(f"{name}: a chunk but the last one is below {CHUNK_BYTES} bytes")
    if any(size > MAX_CHUNK_BYTES for size in sizes):
        raise SnapshotError(f"{name}: a chunk has more than {MAX_CHUNK_BYTES} bytes")
    if manifest.pairs < len(sizes):
        raise SnapshotError(f"{name}: {manifest.pairs} pairs in {len(sizes)} chunks")


def read_body(chunk: SnapshotChunk, data: bytes) -> ChunkBody:
    """Return the pairs in `data`, which must be this very chunk. Raises `SnapshotError`."""
    if len(data) != chunk.size or sha256(data) != chunk.digest:
        raise SnapshotError(
            f"snapshot chunk {chunk.digest.hex()}: {len(data)} bytes with another hash or size"
        )
    try:
        return decode(ChunkBody, data, limit_bytes=MAX_CHUNK_BYTES)
    except DecodeError as error:
        raise SnapshotError(f"snapshot chunk {chunk.digest.hex()}: {error}") from error


def _encoded_size(key: bytes, value: bytes) -> int:
    """Return the length of the canonical encoding of a pair: an array of two byte strings."""
    return 1 + _bytes_size(len(key)) + _bytes_size(len(value))


def _bytes_size(length: int) -> int:
    if length < 1 << 8:
        return 2 + length
    return (3 if length < 1 << 16 else 5) + length
