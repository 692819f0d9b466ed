"""What an operator does with the database of a stopped node: look and compact.

Rules:
1. The node must be stopped: LevelDB is opened by one process at a time and says so otherwise.
2. A node that crashed needs nothing before: LevelDB replays its own log when it is opened.
3. Nothing here touches the journal. What the node has promised stays promised.

Checking everything is `database_check`, going back to an earlier slot is `database_rollback`,
mending is `database_repair`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocol.records.genesis import Genesis
from storage.database import Column, Database, Meta
from storage.snapshots import look_at_snapshots
from validator_node.errors import NodeError
from validator_node.opening import DATABASE_FOLDER, look_at_store

SNAPSHOT_FOLDER = "snapshots"
_REPORT_EVERY = 1000

Report = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much; 0 where that is not known)."""


class DatabaseToolError(NodeError):
    """A database command cannot do what it was asked for."""


@dataclass(frozen=True)
class ColumnUse:
    """What one column holds."""

    name: str
    entries: int
    bytes: int
    """Keys and values before compression."""


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot on the disk."""

    seq: int
    state_root: str
    pairs: int
    bytes: int
    manifest: str


@dataclass(frozen=True)
class Inspection:
    """Where a database stands and what it holds; hashes in hex."""

    path: str
    schema: str
    network_id: str
    height: int
    epoch: int
    first_held: int
    chain_hash: str
    state_root: str
    stable_seq: int | None
    diverged_at: int | None
    disk_bytes: int
    columns: tuple[ColumnUse, ...]
    snapshots: tuple[SnapshotInfo, ...]


def inspect(state_dir: Path, genesis: Genesis, report: Report) -> Inspection:
    """Return where the database stands; reads all of it to count."""
    with look_at_store(state_dir, genesis) as store:
        stable = store.stable()
        schema = store.database.get(Column.META, Meta.SCHEMA) or b""
        return Inspection(
            path=str(store.database.path),
            schema=schema.decode(),
            network_id=genesis.network_id.hex(),
            height=store.height,
            epoch=store.epoch,
            first_held=store.ledger.first(),
            chain_hash=store.chain_hash.hex(),
            state_root=store.tree.root().hex(),
            stable_seq=None if stable is None else stable.checkpoint.seq,
            diverged_at=store.diverged_at,
            disk_bytes=folder_bytes(store.database.path),
            columns=tuple(_count(store.database, column, report) for column in Column),
            snapshots=_snapshots(state_dir),
        )


def compact(state_dir: Path) -> tuple[int, int]:
    """Compact the database; return its bytes on the disk before and after."""
    path = state_dir / DATABASE_FOLDER
    with Database.open(path) as database:
        before = folder_bytes(path)
        database.compact()
    Database.open(path).close()  # LevelDB deletes old files when it is opened
    return before, folder_bytes(path)


def folder_bytes(path: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())


def free_name(folder: Path, name: str) -> Path:
    """Return `folder/name`, with a number behind it if that is taken."""
    number, path = 1, folder / name
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path


def _count(database: Database, column: Column, report: Report) -> ColumnUse:
    name = column.name.lower()
    entries = size = 0
    for key, value in database.iterate(column):
        entries, size = entries + 1, size + 1 + len(key) + len(value)
        if entries % _REPORT_EVERY == 0:
            report(name, entries, 0)
    return ColumnUse(name, entries, size)


def _snapshots(state_dir: Path) -> tuple[SnapshotInfo, ...]:
    return tuple(
        SnapshotInfo(m.seq, m.state_root.hex(), m.pairs, m.size, m.digest.hex())
        for _, m in look_at_snapshots(state_dir / SNAPSHOT_FOLDER)
        if m is not None
    )
