"""Installing a snapshot: its pairs become the state of an empty database.

Rules:
1. Nothing is believed but the root: it is computed from the pairs alone, and the caller compares
   it, or the manifest that names it, with what a quorum certified.
2. Memory is bounded by one chunk and one batch of tree nodes. The chunks are ordered by the key and
   the tree by its hash, so LevelDB sorts the leaves (`Column.SCRATCH`), and the tree is built from
   them bottom-up (`storage.state_build`).
3. It may fail in the middle. It is for a database in a folder of its own, which is moved into place
   when everything is in it, and thrown away otherwise. Each batch is synced: none of them may be
   lost while a later one is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from protocol.codec import sha256
from protocol.state_proof import place_of
from storage.database import Column, Database, Pair, WriteBatch
from storage.errors import SnapshotError
from storage.snapshot_format import SnapshotChunk, SnapshotManifest, read_body
from storage.state_build import build_tree
from storage.state_nodes import path_key

_NODES_A_BATCH = 8192


def install(
    database: Database,
    manifest: SnapshotManifest,
    read_chunk: Callable[[SnapshotChunk], bytes],
) -> None:
    """Make the snapshot the state of an empty `database`; blocking.

    Raises `SnapshotError` when the database holds a state already, when a chunk is not what the
    manifest says, or when the root of all pairs is not the manifest's. The database is of no use
    then (rule 3). What `read_chunk` raises goes through.
    """
    for column in (Column.STATE_VALUES, Column.STATE_NODES, Column.SCRATCH):
        if next(database.iterate(column), None) is not None:
            raise SnapshotError(f"snapshot: {database.path} holds a state already")
    _install_values(database, manifest, read_chunk)
    root = _install_nodes(database)
    if root != manifest.state_root:
        raise SnapshotError(
            f"snapshot of slot {manifest.seq}: its pairs have root {root.hex()}, the manifest says "
            f"{manifest.state_root.hex()}"
        )


def _install_values(
    database: Database,
    manifest: SnapshotManifest,
    read_chunk: Callable[[SnapshotChunk], bytes],
) -> None:
    last, pairs, size = b"", 0, 0
    for chunk in manifest.chunks:
        body = read_body(chunk, read_chunk(chunk))
        batch = WriteBatch()
        for pair in body.pairs:
            if pair.key <= last:
                raise SnapshotError(
                    f"snapshot chunk {chunk.digest.hex()}: key {pair.key.hex()} does not follow "
                    f"{last.hex()}"
                )
            last = pair.key
            batch.put(Column.STATE_VALUES, pair.key, pair.value)
            batch.put(Column.SCRATCH, place_of(pair.key), sha256(pair.value))
        database.write(batch)
        pairs, size = pairs + len(body.pairs), size + chunk.size
    if (pairs, size) != (manifest.pairs, manifest.size):
        raise SnapshotError(
            f"snapshot of slot {manifest.seq}: {pairs} pairs in {size} bytes, the manifest says "
            f"{manifest.pairs} in {manifest.size}"
        )


def _install_nodes(database: Database) -> bytes:
    """Build the tree from the sorted leaves, and clear them away; return the root."""
    batch = WriteBatch()

    def leaves() -> Iterator[Pair]:
        for row in database.iterate(Column.SCRATCH):
            batch.delete(Column.SCRATCH, row[0])
            yield row

    def write(path: int, node: bytes) -> None:
        nonlocal batch
        batch.put(Column.STATE_NODES, path_key(path), node)
        if len(batch) >= _NODES_A_BATCH:
            database.write(batch)
            batch = WriteBatch()

    root = build_tree(leaves(), write)
    database.write(batch)
    return root
