"""The node's LevelDB: one database, divided into columns by the first byte of each key.

Rules:
1. Only this module and the ones it is made of import plyvel, and only the node's process opens the
   database. Opening never begins one: that takes `create`, which makes it aside and renames it into
   a folder that holds nothing. Whoever only looks uses `Database.look`, which writes nothing
   (`storage.database_folder`).
2. Every key begins with the byte of its `Column`; `storage.columns` has the whole list.
3. Everything that belongs together goes into one `WriteBatch`, which is written whole or not at
   all. A batch is written once. `get` and `iterate` can look through a batch not yet written.
4. `write` syncs unless told otherwise. LevelDB starts a new log file when one is full and never
   syncs the old one, so after a power failure an unsynced batch may be lost although a *later* one
   survived. Only data that can be lost in any order (caches, gossip bodies) is written unsynced.
5. The schema version is the first key written and is checked at each open; an older database is
   brought up to date by `storage.migrations`, a newer one is refused.
6. Checksums are verified on every read; damage raises `DatabaseDamagedError`, never returns data.
   Every error names what mends it (`storage.leveldb_errors`).
7. `freeze` gives the database as it is at that moment, to be read in another thread while the node
   goes on writing. LevelDB frees an iterator under the hands of a thread that reads it, so a frozen
   one takes a lock for each row, and `close` waits for it.
8. After a write that failed nothing more is written. A full disk leaves half a record at the end of
   LevelDB's log, which is harmless; LevelDB would append the next one behind it, and the log would
   be damaged in the middle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakSet

import plyvel

from storage.columns import Column as Column  # re-exported: the words of every read and write
from storage.columns import Meta as Meta
from storage.database_folder import (
    Contents,
    check_there,
    clear_void,
    contents,
    holder,
    note_closed,
    note_open,
    view_of,
)
from storage.errors import (
    DatabaseClosedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseMissingError,
    SchemaError,
)
from storage.frozen import FrozenDatabase as FrozenDatabase
from storage.frozen import bounds_of, translated
from storage.leveldb_errors import explained, locked, said
from storage.migrations import SCHEMA_VERSION, migrate
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

    def __init__(self, path: Path, handle: plyvel.DB, opened: Path | None = None) -> None:
        self._path = path
        self._handle = handle
        self._opened = opened
        """The folder LevelDB has open, when it is not `path` itself."""
        self._failed = ""
        """Why a write failed, once one has."""
        self._frozen: WeakSet[FrozenDatabase] = WeakSet()

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Self:
        """Open the database in the folder `path`; with `create`, begin one if there is none.

        A database of an older schema is migrated first. Raises `DatabaseLockedError` when another
        process has it open, `DatabaseMissingError`, `DatabaseDamagedError`, and `SchemaError` when
        a newer node, or something else, wrote it.
        """
        if create and contents(path) is Contents.VOID:
            cls._begin(path)
        check_there(path)
        try:
            handle = _leveldb(path)
        except (plyvel.Error, OSError) as error:
            raise _open_error(path, error) from error
        note_open(path)
        return cls(path, handle)._checked()

    @classmethod
    @contextmanager
    def look(cls, path: Path) -> Iterator[Self]:
        """Open the database to read it; no file in `path` changes, and none is made there.

        Changes go to a copy that is thrown away. Raises the errors of `open`.
        """
        with view_of(path) as folder:
            try:
                handle = _leveldb(folder)
            except (plyvel.Error, OSError) as error:
                raise explained(path, error, folder) from error
            with cls(path, handle, folder)._checked() as database:
                yield database

    @classmethod
    def _begin(cls, path: Path) -> None:
        """Make an empty database at `path`: whole, or after a crash not at all."""
        aside = path.with_name(path.name + ".begun")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            clear_void(path)
            aside.mkdir(mode=0o700, exist_ok=True)
            cls(aside, _leveldb(aside, create=True))._checked().close()
            aside.rename(path)
            parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        except (plyvel.Error, OSError) as error:
            raise _open_error(path, error) from error

    def _checked(self) -> Self:
        """Return this database, migrated, or close it with the error that it is not ours."""
        try:
            self._check_schema()
        except BaseException:
            self.close()
            raise
        return self

    @staticmethod
    def repair(path: Path) -> None:
        """Rebuild a damaged database from what can still be read of it.

        What cannot is lost, and what was written together need no longer be together, so everything
        must be verified afterwards. Raises `DatabaseMissingError`, `DatabaseLockedError`, and
        `DatabaseDamagedError` when nothing could be saved.
        """
        if contents(path) is Contents.VOID:
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
        note_closed(self._opened or self._path)

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
        rows = self._call(lambda: self._handle.iterator(**bounds_of(column, prefix, start)))
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
        found = self.get(Column.META, Meta.SCHEMA)
        if found is not None:
            migrate(self, found, str(self._path))
            return
        if next(self._rows(self._handle.iterator()), None) is not None:
            raise SchemaError(
                f"database {self._path}: has keys but no schema version, so this node did not "
                f"write it; choose another folder"
            )
        first = WriteBatch()
        first.put(Column.META, Meta.SCHEMA, str(SCHEMA_VERSION).encode())
        self.write(first)

    def _call(self, operation: Callable[[], T]) -> T:
        if self._handle.closed:
            raise DatabaseClosedError(f"database {self._path}: is closed")
        return translated(self._path, operation, self._opened)

    def _rows(self, rows: Iterator[Pair]) -> Iterator[Pair]:
        while True:
            pair = self._call(lambda: next(rows, None))
            if pair is None:
                return
            yield pair[0][1:], pair[1]


def _leveldb(path: Path, *, create: bool = False) -> plyvel.DB:
    return plyvel.DB(
        str(path),
        create_if_missing=create,
        paranoid_checks=True,
        lru_cache_size=CACHE_BYTES,
        write_buffer_size=WRITE_BUFFER_BYTES,
        bloom_filter_bits=BLOOM_FILTER_BITS,
    )


def _open_error(path: Path, error: Exception) -> DatabaseError:
    found = explained(path, error)
    if isinstance(found, DatabaseLockedError):
        return locked(path, said(error), holder(path))
    return found
