"""Mending a stopped node's database, or saying that it must be synced again.

Rules:
1. Everything happens in a copy. Only a copy that `database_check` finds whole takes the database's
   place; the damaged one stays beside it. Where none becomes whole nothing has changed.
2. First LevelDB rebuilds what can still be read. It puts every table into its first level, where an
   old value may hide a newer one until all of it is compacted: so it is.
3. Bodies and proofs that do not hold are dropped: the node fetches or makes them again. Where the
   state does not hold it is executed again, from a snapshot or the genesis, up to the last slot
   that is held without a gap (`database_rollback`).
4. The journal is not touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.codec import decode, encode, sha256
from protocol.errors import ProtocolError
from protocol.records.genesis import Genesis
from protocol.records.result import result_key
from protocol.state_proof import verify_state
from storage.database import Column, Database, Meta, WriteBatch
from storage.database_folder import Contents, contents, kept_closed
from storage.errors import DatabaseMissingError, StorageError
from storage.ledger import LedgerTip, decode_entry
from validator_node.database_check import DamageFoundError, check_slot, check_store
from validator_node.database_rollback import exchange, rebuild
from validator_node.database_tools import (
    DatabaseToolError,
    Report,
    folder_bytes,
    free_name,
)
from validator_node.opening import DATABASE_FOLDER
from validator_node.receipts import ProvenResult
from validator_node.store import Store, check_network, seq_key

_REPAIRING = f"{DATABASE_FOLDER}.repair"
_REBUILDING = f"{DATABASE_FOLDER}.repair.rebuilt"


class RepairFailedError(DatabaseToolError):
    """What is left does not make a whole database; nothing was changed."""


@dataclass(frozen=True)
class Repaired:
    """What a repair did."""

    kept: str
    """Where the damaged database is now."""
    height: int
    """The last slot that the node has executed now."""
    dropped: int
    """Bodies and proofs that did not hold."""
    executed_again: bool
    """Whether the state was made anew from the log."""


def repair(state_dir: Path, genesis: Genesis, report: Report) -> Repaired:
    """Mend the database in place of the damaged one, which is kept.

    Raises `RepairFailedError`, `DatabaseLockedError`, `DatabaseMissingError`, and
    `DatabaseToolError` when there is no room.
    """
    path = state_dir / DATABASE_FOLDER
    if contents(path) is Contents.VOID:
        raise DatabaseMissingError(f"database {path}: does not exist")
    _need_room(state_dir, path)
    copies = [state_dir / _REPAIRING, state_dir / _REBUILDING]
    with kept_closed(path):
        try:
            for copy in copies:
                shutil.rmtree(copy, ignore_errors=True)
            whole, done = _mended(path, copies[0], copies[1], genesis, report)
            kept = free_name(state_dir, f"{DATABASE_FOLDER}.before-repair")
            whole.rename(kept)
            exchange(path, kept)
        finally:
            for copy in copies:
                shutil.rmtree(copy, ignore_errors=True)
    return Repaired(str(kept), *done)


def _need_room(state_dir: Path, path: Path) -> None:
    size, free = folder_bytes(path), shutil.disk_usage(state_dir).free
    if free < 3 * size:
        raise DatabaseToolError(
            f"{state_dir}: repairing {size:,} bytes needs {3 * size:,} free for a copy, its files "
            f"rebuilt and a new state, there are {free:,}; make room"
        )


def _mended(
    path: Path, copy: Path, rebuilt: Path, genesis: Genesis, report: Report
) -> tuple[Path, tuple[int, int, bool]]:
    """Return the folder of a whole database, and (height, rows dropped, executed again)."""
    try:
        return _made_whole(path, copy, rebuilt, genesis, report)
    except (StorageError, ProtocolError, DamageFoundError) as error:
        raise RepairFailedError(
            f"database {path}: what can be read does not make a whole database ({error}). Nothing "
            f"was changed. Keep the journal, move the folder `{DATABASE_FOLDER}` away, and start "
            f"the node: it takes the state from its peers"
        ) from error


def _made_whole(
    path: Path, copy: Path, rebuilt: Path, genesis: Genesis, report: Report
) -> tuple[Path, tuple[int, int, bool]]:
    _rescue(path, copy)
    with Database.open(copy) as database:
        database.compact()
        _name_network(database, genesis)
        check_network(database, genesis)
        try:
            store = Store(database, genesis)
            dropped = _drop_unsound(store)
            check_store(store, report)
        except (StorageError, ProtocolError, DatabaseToolError) as damage:
            height = _execute_again(path, database, rebuilt, genesis, report, damage)
        else:
            return copy, (store.height, dropped, False)
    with Database.open(rebuilt) as database:
        store = Store(database, genesis)
        dropped = _drop_unsound(store)
        check_store(store, report)
    return rebuilt, (height, dropped, True)


def _rescue(path: Path, copy: Path) -> None:
    """Copy the database's files, whatever else lies there, and let LevelDB rebuild them."""
    copy.mkdir(mode=0o700)
    for entry in path.iterdir():
        if entry.is_file():
            shutil.copyfile(entry, copy / entry.name)
    Database.repair(copy)


def _name_network(database: Database, genesis: Genesis) -> None:
    """Restore the network's id where it was lost: certificates prove it, or nothing does."""
    if database.get(Column.META, Meta.NETWORK) is None:
        batch = WriteBatch()
        batch.put(Column.META, Meta.NETWORK, genesis.network_id)
        database.write(batch)


def _drop_unsound(store: Store) -> int:
    """Drop bodies and proofs that do not hold; return how many."""
    batch = WriteBatch()
    for digest, content in store.database.iterate(Column.BLOBS):
        if sha256(content) != digest:
            batch.delete(Column.BLOBS, digest)
    for submission_id, data in store.database.iterate(Column.PROOFS):
        if not _proof_holds(store, submission_id, data):
            batch.delete(Column.PROOFS, submission_id)
    dropped = len(batch)
    store.database.write(batch)
    return dropped


def _proof_holds(store: Store, submission_id: bytes, data: bytes) -> bool:
    try:
        proven = decode(ProvenResult, data)
        result, root = store.result(submission_id), store.root_after(proven.seq)
        if result is not None and root is not None:
            verify_state(root, result_key(submission_id), encode(result), proven.proof)
    except (StorageError, ProtocolError):
        return False
    return result is not None


def _execute_again(
    path: Path,
    database: Database,
    rebuilt: Path,
    genesis: Genesis,
    report: Report,
    damage: Exception,
) -> int:
    """Make the state anew from the newest stretch of the log that allows it; return its end."""
    why: Exception = damage
    for first, last, digest in reversed(list(_stretches(database, genesis))):
        batch = WriteBatch()
        batch.put(Column.META, Meta.FIRST, seq_key(first))
        batch.put(Column.META, Meta.TIP, encode(LedgerTip(seq=last, digest=digest)))
        database.write(batch)
        shutil.rmtree(rebuilt, ignore_errors=True)
        try:
            rebuild(Store(database, genesis), path.parent, rebuilt, last, report)
        except (StorageError, ProtocolError, DatabaseToolError) as error:
            why = error
        else:
            return last
    raise DamageFoundError("state", str(why))


def _stretches(database: Database, genesis: Genesis) -> Iterator[tuple[int, int, bytes]]:
    """Yield (first slot, last slot, its digest) of each run of whole slots, oldest first."""
    store = Store(database, genesis)
    run: tuple[int, int, bytes] | None = None
    for key, data in database.iterate(Column.LEDGER):
        seq = int.from_bytes(key)
        follows = run is not None and run[1] == seq - 1
        try:
            entry = decode_entry(seq, data)
            parent = run[2] if run is not None and follows else None
            check_slot(store, entry, parent)
        except (StorageError, ProtocolError, DamageFoundError):
            if run is not None:
                yield run
            run = None
            continue
        if run is not None and not follows:
            yield run
        run = (run[0] if run is not None and follows else seq, seq, entry.digest)
    if run is not None:
        yield run
