"""The node's LevelDB: one database, divided into columns by the first byte of each key.

Rules:
1. Only this module imports plyvel, and only the node's process opens the database.
2. Every key begins with the byte of its `Column`; `storage.columns` has the whole list.
3. Everything that belongs together goes into one `WriteBatch`, which is written whole or not at
   all. A batch is written once. `get` and `iterate` can look through a batch not yet written.
4. `write` syncs unless told otherwise. LevelDB starts a new log file when one is full and never
   syncs the old one, so after a power failure an unsynced batch may be lost although a *later* one
   survived. Only data that can be lost in any order (caches, gossip bodies) is written unsynced.
5. The schema version is the first key written and is checked at each open; an older database is
   brought up to date by `storage.migrations`, a newer one is refused.
6. Checksums are verified on every read; damage raises `DatabaseDamagedError`, never returns data.
7. `freeze` gives the database as it is at that moment, to be read in another thread while the node
   goes on writing. LevelDB frees an iterator under the hands of a thread that reads it, so a frozen
   one takes a lock for each row, and `close` waits for it.
8. After a write that failed nothing more is written. A full disk leaves half a record at the end of
   LevelDB's log, which is harmless; LevelDB would append the next one behind it, and the log would
   be damaged in the middle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

import plyvel

from storage.columns import Column as Column  # re-exported: the words of every read and write
from storage.errors import (
    DatabaseClosedError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseMissingError,
    SchemaError,
)
from storage.migrations import SCHEMA_KEY, SCHEMA_VERSION, migrate
from storage.write_batch import OpenBatch as OpenBatch
from storage.write_batch import Pair as Pair
from storage.write_batch import WriteBatch as WriteBatch
from storage.write_batch import overlay as overlay

CACHE_BYTES = 16 * 1024 * 1024
WRITE_BUFFER_BYTES = 4 * 1024 * 1024
"""LevelDB fills both before it reuses them (two buffers and the cache), so that a node's memory
grows by their sum in its first hour: they are small enough to be full soon."""
BLOOM_FILTER_BITS = 10
"""Bits a key: LevelDB's documented value for about 1 % false positives."""

T = TypeVar("T")


class Database:
    """An open LevelDB. Use `Database.open`, and `close` or a `with` statement."""

    def __init__(self, path: Path, handle: plyvel.DB) -> None:
        self._path = path
        self._handle = handle
        self._failed = ""
        """Why a write failed, once one has."""
        self._frozen: WeakSet[FrozenDatabase] = WeakSet()

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Self:
        """Open the database in the folder `path`, creating it unless `create` is false.

        A database of an older schema is migrated first. Raises `DatabaseLockedError` when another
        process has it open, `DatabaseMissingError`, `DatabaseDamagedError`, and `SchemaError` when
        a newer node, or something else, wrote it.
        """
        if not create and not (path / "CURRENT").exists():
            raise DatabaseMissingError(f"database {path}: does not exist")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = plyvel.DB(
                str(path),
                create_if_missing=create,
                paranoid_checks=True,
                lru_cache_size=CACHE_BYTES,
                write_buffer_size=WRITE_BUFFER_BYTES,
                bloom_filter_bits=BLOOM_FILTER_BITS,
            )
        except (plyvel.Error, OSError) as error:
            raise _open_error(path, error) from error
        database = cls(path, handle)
        try:
            database._check_schema()
        except BaseException:
            database.close()
            raise
        return database

    @staticmethod
    def repair(path: Path) -> None:
        """Rebuild a damaged database from what can still be read of it.

        What cannot is lost, and what was written together need no longer be together, so everything
        must be verified afterwards. Raises `DatabaseMissingError`, `DatabaseLockedError`, and
        `DatabaseDamagedError` when nothing could be saved.
        """
        if not path.is_dir():
            raise DatabaseMissingError(f"database {path}: does not exist")
        try:
            plyvel.repair_db(
                str(path), write_buffer_size=WRITE_BUFFER_BYTES, bloom_filter_bits=BLOOM_FILTER_BITS
            )
        except (plyvel.Error, OSError) as error:
            raise _open_error(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The folder of the database."""
        return self._path

    def close(self) -> None:
        """Release the database and its lock; a second call does nothing.

        Frozen versions are closed with it: a thread that reads one gets `DatabaseClosedError`.
        """
        for frozen in list(self._frozen):
            frozen.close()
        self._handle.close()

    def get(self, column: Column, key: bytes, *, batch: WriteBatch | None = None) -> bytes | None:
        """Return the value of `key`, or None. An open `batch` is looked through first."""
        if batch is not None and batch.is_open:
            change = batch.find(column, key)
            if change is not None:
                return change[1]
        full = column + key
        value: bytes | None = self._call(lambda: self._handle.get(full, verify_checksums=True))
        return value

    def iterate(
        self,
        column: Column,
        prefix: bytes = b"",
        *,
        start: bytes = b"",
        batch: WriteBatch | None = None,
    ) -> Iterator[Pair]:
        """Return the pairs whose key begins with `prefix`, in key order, keys without the column.

        Keys below `start` are left out. The iterator sees the database (and the open `batch`) as
        they are at this call.
        """
        rows = self._call(lambda: self._handle.iterator(**_bounds(column, prefix, start)))
        stored = self._rows(rows)
        if batch is None or not batch.is_open:
            return stored
        return overlay(stored, batch.changes(column, prefix, start))

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        """Write `batch` whole or not at all; with `sync`, return when it is on the disk (rule 4).

        Raises `BatchError` for a batch that was written or discarded, and `DatabaseError` when
        LevelDB fails: the process should then end, for nobody knows what reached the disk. Nothing
        more is written after that (rule 8).
        """
        batch.check_open()
        if self._failed:
            raise DatabaseError(f"database {self._path}: an earlier write failed: {self._failed}")

        def send() -> None:
            out = self._handle.write_batch(transaction=False, sync=sync)
            for key, value in batch.content.items():
                if value is None:
                    out.delete(key)
                else:
                    out.put(key, value)
            out.write()

        try:
            self._call(send)
        except DatabaseError as error:
            self._failed = str(error)
            raise
        batch.mark_written()

    def freeze(self) -> FrozenDatabase:
        """Return the database as it is now (rule 7). What no batch has written is not in it."""
        frozen = FrozenDatabase(self._path, self._call(self._handle.snapshot))
        self._frozen.add(frozen)
        return frozen

    def compact(self) -> None:
        """Rewrite the files without what was deleted or overwritten; takes time and disk space."""
        # Without bounds plyvel passes two empty keys, and LevelDB compacts nothing at all.
        self._call(lambda: self._handle.compact_range(start=b"\x00", stop=b"\xff"))

    def _check_schema(self) -> None:
        found = self.get(Column.META, SCHEMA_KEY)
        if found is not None:
            migrate(self, found, str(self._path))
            return
        if next(self._rows(self._handle.iterator()), None) is not None:
            raise SchemaError(
                f"database {self._path}: has keys but no schema version, so this node did not "
                f"write it; choose another folder"
            )
        first = WriteBatch()
        first.put(Column.META, SCHEMA_KEY, str(SCHEMA_VERSION).encode())
        self.write(first)

    def _call(self, operation: Callable[[], T]) -> T:
        if self._handle.closed:
            raise DatabaseClosedError(f"database {self._path}: is closed")
        return _translated(self._path, operation)

    def _rows(self, rows: Iterator[Pair]) -> Iterator[Pair]:
        while True:
            pair = self._call(lambda: next(rows, None))
            if pair is None:
                return
            yield pair[0][1:], pair[1]


class FrozenDatabase:
    """A database as it was at one moment. Made by `Database.freeze`; close it soon.

    While it is open LevelDB keeps every old value that it shows. All of it may be used in any
    thread, one thread at a time for each iterator.
    """

    def __init__(self, path: Path, snapshot: Any) -> None:  # noqa: ANN401 - plyvel has no types
        self._path = path
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the old values go; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._snapshot.close()

    def get(self, column: Column, key: bytes) -> bytes | None:
        """Return the value that `key` had, or None."""
        full = column + key
        value: bytes | None = self._call(lambda: self._snapshot.get(full, verify_checksums=True))
        return value

    def iterate(self, column: Column, prefix: bytes = b"") -> Iterator[Pair]:
        """Yield the pairs whose key begins with `prefix`, in key order, keys without the column."""
        bounds = _bounds(column, prefix, b"")
        rows = self._call(lambda: self._snapshot.iterator(fill_cache=False, **bounds))
        while True:
            pair = self._call(lambda: next(rows, None))
            if pair is None:
                return
            yield pair[0][1:], pair[1]

    def _call(self, operation: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise DatabaseClosedError(f"database {self._path}: this frozen version is closed")
            return _translated(self._path, operation)


def _bounds(column: Column, prefix: bytes, start: bytes) -> dict[str, Any]:
    """Return plyvel's arguments for the keys under `prefix` that are not below `start`."""
    full = column + prefix
    trimmed = full.rstrip(b"\xff")  # a column's byte is never 0xff, so something is left
    return {
        "start": max(full, column + start),
        "stop": trimmed[:-1] + bytes([trimmed[-1] + 1]),
        "verify_checksums": True,
    }


def _translated(path: Path, operation: Callable[[], T]) -> T:
    try:
        return operation()
    except plyvel.CorruptionError as error:
        raise DatabaseDamagedError(f"database {path}: {_words(error)}") from error
    except plyvel.Error as error:
        raise DatabaseError(f"database {path}: {_words(error)}") from error


def _open_error(path: Path, error: Exception) -> DatabaseError:
    words = _words(error)
    if words.startswith("IO error: lock "):
        return DatabaseLockedError(
            f"database {path}: open in another process ({words}); stop the other node, or give "
            f"this one its own data folder; do not delete the LOCK file"
        )
    if isinstance(error, plyvel.CorruptionError):
        return DatabaseDamagedError(
            f"database {path}: {words}; keep the journal, and run `validator-node db repair`, or "
            f"move this folder away and sync again"
        )
    return DatabaseError(f"database {path}: {words}")


def _words(error: Exception) -> str:
    """Return LevelDB's message as text; plyvel hands it over as bytes."""
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(error)
