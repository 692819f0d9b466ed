"""Taking a stopped node's database back to an earlier slot.

Rules:
1. The new database is made beside the old one, from the newest snapshot at or below the slot, or
   from the genesis, by executing the decided batches again. Each batch must follow its parent, and
   the roots that come out must be the ones that the batches name: what a quorum certified counts,
   not what this node had computed.
2. What does not hang on the slot is carried over: bodies, evidence, records, what is sealed, and
   of ledger and proofs everything up to the slot. A mark that the state went wrong above the slot
   is not: to get rid of it is why one goes back.
3. The two folders change places in one step of the file system, and the old one is kept as
   `db.before-rollback-<height>`. A crash before that leaves the old database as it was.
4. The journal is not touched. The node has promised what it has promised; it will execute again
   what was decided, and sign nothing twice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocol.codec import decode
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from storage.database import Column, Database, Meta, WriteBatch
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.retention import Aged
from storage.snapshots import SnapshotChunk, SnapshotFolder, SnapshotManifest, install
from validator_node.database_check import DamageFoundError, check_slot
from validator_node.database_tools import (
    SNAPSHOT_FOLDER,
    DatabaseToolError,
    Report,
    free_name,
)
from validator_node.opening import DATABASE_FOLDER, open_store
from validator_node.receipts import ProvenResult
from validator_node.store import Store

_BUILDING = f"{DATABASE_FOLDER}.rollback"
_SLOTS_A_FLUSH = 32
_BYTES_A_BATCH = 4 * 1024 * 1024
_SLOT_BYTES = 8
_OWN_META = frozenset(
    name.value
    for name in (Meta.SCHEMA, Meta.NETWORK, Meta.TIP, Meta.FIRST, Meta.MIGRATION, Meta.STABLE)
)
"""Names that the new database has its own of."""
_REBUILT = frozenset({Column.STATE_VALUES, Column.STATE_NODES, Column.SCRATCH, Column.META})

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did."""

    height_before: int
    height: int
    base: int
    """The snapshot's slot that it began from; 0 for the genesis."""
    state_root: str
    kept: str
    """Where the old database is now."""


def rollback(state_dir: Path, genesis: Genesis, seq: int, report: Report) -> RolledBack:
    """Take the database back to the state after slot `seq`.

    Raises `DatabaseToolError` when `seq` is not below the height or the log no longer reaches back,
    `DamageFoundError` when the log does not lead there, and the errors of `open_store`. The
    database is unchanged then.
    """
    building = state_dir / _BUILDING
    with open_store(state_dir, genesis) as old:  # whose lock also keeps a second rollback away
        shutil.rmtree(building, ignore_errors=True)  # what a crash has left
        height = old.height
        if not 0 <= seq < height:
            raise DatabaseToolError(
                f"database {old.database.path}: is at slot {height}, cannot go back to {seq}"
            )
        try:
            base, root = rebuild(old, state_dir, building, seq, report)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    kept = free_name(state_dir, f"{DATABASE_FOLDER}.before-rollback-{height}")
    building.rename(kept)
    exchange(state_dir / DATABASE_FOLDER, kept)
    return RolledBack(height, seq, base, root.hex(), str(kept))


def rebuild(
    old: Store, state_dir: Path, building: Path, seq: int, report: Report
) -> tuple[int, bytes]:
    """Make the database as it was after `seq`, at most the height, in the folder `building`.

    Returns its base and its root. Raises `DatabaseToolError` and `StorageError`.
    """
    snapshots = SnapshotFolder(state_dir / SNAPSHOT_FOLDER)
    manifest = _base(old, snapshots, seq)
    base = 0 if manifest is None else manifest.seq
    new = _founded(old, snapshots, manifest, building)
    try:
        _carry_over(old, new.database, base, seq, report)
        new = Store(new.database, old.genesis)  # its voters follow from what was carried over
        _replay(old, new, seq, report)
        return base, new.tree.root()
    finally:
        new.close()


def exchange(first: Path, second: Path) -> None:
    """Let two folders change places in one step of the file system, on the disk at return.

    A file system that cannot do that gets two renames instead. Raises `OSError`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV):
            raise OSError(code, os.strerror(code), str(first))
        spare = first.with_name(first.name + ".exchange")
        first.rename(spare)
        second.rename(first)
        spare.rename(second)
    handle = os.open(first.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _base(old: Store, snapshots: SnapshotFolder, seq: int) -> SnapshotManifest | None:
    """Return the snapshot to begin from, None for the genesis."""
    first = old.ledger.first()
    manifests = snapshots.manifests()
    for manifest in manifests:
        known = old.root_after(manifest.seq)
        trusted = known is None or known == manifest.state_root
        if first - 1 <= manifest.seq <= seq and trusted and old.certificate_at(manifest.seq):
            return manifest
    if first == 1:
        return None
    reachable = [manifest.seq for manifest in manifests if manifest.seq >= first - 1]
    advice = (
        f"slot {min(reachable)} is the earliest that can be reached"
        if reachable
        else "no snapshot reaches it; delete the folder and let the node sync again"
    )
    raise DatabaseToolError(
        f"database {old.database.path}: cannot go back to slot {seq}: the log begins at slot "
        f"{first}, and {advice}"
    )


def _founded(
    old: Store, snapshots: SnapshotFolder, manifest: SnapshotManifest | None, path: Path
) -> Store:
    """Return a new database at the genesis or at the snapshot."""
    if manifest is None:
        return Store.open(path, old.genesis, create=True)

    def read_chunk(chunk: SnapshotChunk) -> bytes:
        data = snapshots.chunk(chunk.digest)
        if data is None:
            raise DatabaseToolError(
                f"snapshot of slot {manifest.seq}: a chunk is damaged, and the snapshot was "
                "dropped; start again without it"
            )
        return data

    certificate = old.certificate_at(manifest.seq)
    if certificate is None:
        raise AssertionError("a base is chosen among slots with a certificate")
    database = Database.open(path, create=True)
    try:
        install(database, manifest, read_chunk)
        batch = WriteBatch()
        Ledger(database).anchor(batch, manifest.seq, certificate.header.digest)
        batch.put(Column.META, Meta.NETWORK, old.genesis.network_id)
        batch.put(Column.ROOTS, manifest.seq.to_bytes(_SLOT_BYTES), manifest.state_root)
        database.write(batch)
        return Store(database, old.genesis)
    except BaseException:
        database.close()
        raise


def _carry_over(old: Store, target: Database, base: int, seq: int, report: Report) -> None:
    """Copy what the new database keeps of the old one (rule 2)."""
    copy = _Copy(old.database, target, report)
    copy.rows(Column.META, lambda key, value: _keeps_meta(key, value, seq))
    _copy_stable(old, target, seq)
    keeps: dict[Column, Callable[[bytes, bytes], bool]] = {
        Column.LEDGER: lambda key, _: int.from_bytes(key) <= base,
        Column.LEDGER_DIGESTS: lambda _, value: int.from_bytes(value) <= base,
        Column.ROOTS: lambda key, _: int.from_bytes(key) <= base,
        Column.PROOFS: lambda _, value: decode(ProvenResult, value).seq <= base,
        Column.AGES: lambda key, value: _keeps_age(key, value, base),
    }
    for column in Column:
        if column not in _REBUILT:
            copy.rows(column, keeps.get(column, lambda _key, _value: True))
    if base:
        batch = WriteBatch()
        batch.put(Column.META, Meta.FIRST, old.ledger.first().to_bytes(_SLOT_BYTES))
        target.write(batch)


def _keeps_meta(key: bytes, value: bytes, seq: int) -> bool:
    if key.startswith(Meta.EDGE):
        return decode(CheckpointCertificate, value).checkpoint.seq <= seq
    if key == Meta.DIVERGED:
        return int.from_bytes(value) <= seq
    return key not in _OWN_META


def _keeps_age(key: bytes, value: bytes, base: int) -> bool:
    """Return whether a row of the age index belongs to something that is carried over."""
    if key[:1] != Aged.PROOF:
        return True
    slot = key[2:][:_SLOT_BYTES] if key[1:2] == b"<" else value
    return int.from_bytes(slot) <= base


def _copy_stable(old: Store, target: Database, seq: int) -> None:
    """Keep the newest stable checkpoint that is known and not above `seq`."""
    known = [old.stable()]
    rows = old.database.iterate(Column.META, Meta.EDGE)
    known += [decode(CheckpointCertificate, data) for _, data in rows]
    below = [found for found in known if found is not None and found.checkpoint.seq <= seq]
    if below:
        store = Store(target, old.genesis)
        store.put_stable(max(below, key=lambda found: found.checkpoint.seq))
        store.flush()


def _replay(old: Store, new: Store, seq: int, report: Report) -> None:
    """Execute the old ledger's batches up to `seq` again."""
    base = new.height
    for slot in range(base + 1, seq + 1):
        entry = old.ledger.get(slot)
        if entry is None:
            raise DamageFoundError("ledger", f"slot {slot} is missing, the tip is {old.height}")
        batch, certificate = check_slot(new, entry, new.chain_hash)
        try:
            new.apply(batch, certificate)
        except StorageError as error:
            raise DamageFoundError("ledger", f"slot {slot}: {error}") from error
        if slot % _SLOTS_A_FLUSH == 0:
            new.flush()
            report("replay", slot - base, seq - base)
    _check_later_roots(old, new, seq)
    new.flush()
    report("replay", seq - base, seq - base)


def _check_later_roots(old: Store, new: Store, seq: int) -> None:
    """Compare the newest roots with what the batches above `seq` name for them."""
    for slot in range(seq + 1, seq + new.genesis.parameters.window + 1):
        later = old.batch_at(slot)
        root = new.root_after(slot - new.genesis.parameters.window)
        if later is not None and root is not None and later[0].state_root != root:
            raise DamageFoundError("ledger", f"slot {slot} names another state root")


class _Copy:
    """Copies rows in bounded batches."""

    def __init__(self, source: Database, target: Database, report: Report) -> None:
        self._source = source
        self._target = target
        self._report = report

    def rows(self, column: Column, keeps: Callable[[bytes, bytes], bool]) -> None:
        batch, size, done = WriteBatch(), 0, 0
        for key, value in self._source.iterate(column):
            if not keeps(key, value):
                continue
            batch.put(column, key, value)
            size += len(key) + len(value)
            done += 1
            if size >= _BYTES_A_BATCH:
                self._target.write(batch)
                self._report(f"copy {column.name.lower()}", done, 0)
                batch, size = WriteBatch(), 0
        self._target.write(batch)
