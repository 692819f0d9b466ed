"""The node's LevelDB: one database, divided into columns by the first byte of each key.

Rules:
1. Only this module imports plyvel, and only the node's process opens the database.
2. Every key begins with the byte of its `Column`. The table below is the whole list: a new use is
   a new row, and a row is never given a second meaning.
3. Everything that belongs together goes into one `WriteBatch`, which is written whole or not at
   all. A batch is written once. `get` and `iterate` can look through a batch not yet written.
4. `write` syncs unless told otherwise. LevelDB starts a new log file when one is full and never
   syncs the old one, so after a power failure an unsynced batch may be lost although a *later* one
   survived. Only data that can be lost in any order (caches, gossip bodies) is written unsynced.
5. The schema version is the first key written and is checked at each open.
6. Checksums are verified on every read; damage raises `DatabaseDamagedError`, never returns data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import plyvel

from storage.errors import (
    BatchError,
    DatabaseClosedError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseMissingError,
    SchemaError,
)

SCHEMA_VERSION = 1
"""Raised with every change of what is stored under which key."""

CACHE_BYTES = 64 * 1024 * 1024
WRITE_BUFFER_BYTES = 16 * 1024 * 1024
BLOOM_FILTER_BITS = 10
"""Bits a key: LevelDB's documented value for about 1 % false positives."""

_SCHEMA_KEY = b"schema"

T = TypeVar("T")
Pair = tuple[bytes, bytes]
Change = tuple[bytes, bytes | None]


class Column(bytes, Enum):
    """The first byte of every key, and what follows it."""

    META = b"M"
    """name -> facts about this database: `schema`, `ledger-tip`, `network-id`, `stable` (the newest
    stable checkpoint), `edge/` epoch, 8 bytes -> the stable checkpoint at that epoch's edge, and
    `evidence/` digest -> proof of contradicting votes, `diverged` -> where the state went wrong."""
    STATE_VALUES = b"V"
    """state key -> value (`storage.state`)."""
    STATE_NODES = b"N"
    """path in the state tree -> node (`storage.state`)."""
    LEDGER = b"L"
    """sequence, 8 bytes, big-endian -> batch and certificate (`storage.ledger`)."""
    LEDGER_DIGESTS = b"D"
    """digest of a batch -> its sequence, 8 bytes, big-endian (`storage.ledger`)."""
    ROOTS = b"T"
    """sequence, 8 bytes, big-endian -> the state root after it (the node's store)."""
    PROOFS = b"P"
    """submission id -> the proof of its result, taken when it settled (the node's store)."""
    BLOBS = b"B"
    """sha256 of a body -> the body (`storage.blobs`)."""
    RECORDS = b"R"
    """DHT key -> signed record (`storage.record_store`)."""
    AUDIT = b"A"
    """position in the audit log -> entry (`storage.audit_log`)."""
    LOCAL = b"O"
    """name -> what this node remembers for itself and could do without, such as known peers."""


class WriteBatch:
    """Changes that reach the database together; the last change of a key counts.

    It is *open* until `Database.write` or `discard` ends it; then it takes no more changes.
    """

    def __init__(self) -> None:
        self._changes: dict[bytes, bytes | None] = {}
        self._state = "open"

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def is_open(self) -> bool:
        """Whether the batch is neither written nor discarded."""
        return self._state == "open"

    @property
    def was_discarded(self) -> bool:
        """Whether the batch was given up."""
        return self._state == "discarded"

    def put(self, column: Column, key: bytes, value: bytes) -> None:
        """Store `value` under `key` when the batch is written."""
        self._check_open()
        self._changes[column + key] = value

    def delete(self, column: Column, key: bytes) -> None:
        """Remove `key` when the batch is written; a key that is not there is no error."""
        self._check_open()
        self._changes[column + key] = None

    def discard(self) -> None:
        """Give the batch up. What was built on it (state tree, ledger) falls back to the disk."""
        self._check_open()
        self._state = "discarded"

    def changes(self, column: Column, prefix: bytes = b"") -> list[Change]:
        """Return the changes under `prefix` of `column` in key order; None marks a deletion."""
        full = column + prefix
        return sorted((k[1:], v) for k, v in self._changes.items() if k.startswith(full))

    def _check_open(self) -> None:
        if self._state != "open":
            raise BatchError(f"write batch: already {self._state}, start a new one")


class OpenBatch:
    """The one unwritten batch that a part of the storage has put changes into, if any."""

    def __init__(self) -> None:
        self._batch: WriteBatch | None = None

    def current(self) -> WriteBatch | None:
        """Return the batch while it is open, else None."""
        if self._batch is not None and not self._batch.is_open:
            self._batch = None
        return self._batch

    def join(self, batch: WriteBatch) -> None:
        """Take part in `batch`. Raises `BatchError` while another one is open.

        Two open batches could be written in the wrong order, or only the second of them.
        """
        current = self.current()
        if current is not None and current is not batch:
            raise BatchError("write batch: an earlier one is neither written nor discarded")
        batch._check_open()
        self._batch = batch


class Database:
    """An open LevelDB. Use `Database.open`, and `close` or a `with` statement."""

    def __init__(self, path: Path, handle: plyvel.DB) -> None:
        self._path = path
        self._handle = handle

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Self:
        """Open the database in the folder `path`, creating it unless `create` is false.

        Raises `DatabaseLockedError` when another process has it open, `DatabaseMissingError`,
        `DatabaseDamagedError`, and `SchemaError` when it was written by another version.
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
        """Release the database and its lock; a second call does nothing."""
        self._handle.close()

    def get(self, column: Column, key: bytes, *, batch: WriteBatch | None = None) -> bytes | None:
        """Return the value of `key`, or None. An open `batch` is looked through first."""
        full = column + key
        if batch is not None and batch.is_open and full in batch._changes:
            return batch._changes[full]
        value: bytes | None = self._call(lambda: self._handle.get(full, verify_checksums=True))
        return value

    def iterate(
        self, column: Column, prefix: bytes = b"", *, batch: WriteBatch | None = None
    ) -> Iterator[Pair]:
        """Return the pairs whose key begins with `prefix`, in key order, keys without the column.

        The iterator sees the database (and the open `batch`) as they are at this call.
        """
        rows = self._call(
            lambda: self._handle.iterator(prefix=column + prefix, verify_checksums=True)
        )
        stored = self._rows(rows)
        if batch is None or not batch.is_open:
            return stored
        return overlay(stored, batch.changes(column, prefix))

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        """Write `batch` whole or not at all; with `sync`, return when it is on the disk (rule 4).

        Raises `BatchError` for a batch that was written or discarded, and `DatabaseError` when
        LevelDB fails: the process should then end, for nobody knows what reached the disk.
        """
        batch._check_open()

        def send() -> None:
            out = self._handle.write_batch(transaction=False, sync=sync)
            for key, value in batch._changes.items():
                if value is None:
                    out.delete(key)
                else:
                    out.put(key, value)
            out.write()

        self._call(send)
        batch._state = "written"

    def _check_schema(self) -> None:
        found = self.get(Column.META, _SCHEMA_KEY)
        expected = str(SCHEMA_VERSION).encode()
        if found == expected:
            return
        if found is not None:
            raise SchemaError(
                f"database {self._path}: schema {found.decode(errors='replace')}, this node reads "
                f"schema {SCHEMA_VERSION}; use the matching version, or move the folder away and "
                f"sync again"
            )
        if next(self._rows(self._handle.iterator()), None) is not None:
            raise SchemaError(
                f"database {self._path}: has keys but no schema version, so this node did not "
                f"write it; choose another folder"
            )
        first = WriteBatch()
        first.put(Column.META, _SCHEMA_KEY, expected)
        self.write(first)

    def _call(self, operation: Callable[[], T]) -> T:
        if self._handle.closed:
            raise DatabaseClosedError(f"database {self._path}: is closed")
        try:
            return operation()
        except plyvel.CorruptionError as error:
            raise DatabaseDamagedError(f"database {self._path}: {_words(error)}") from error
        except plyvel.Error as error:
            raise DatabaseError(f"database {self._path}: {_words(error)}") from error

    def _rows(self, rows: Iterator[Pair]) -> Iterator[Pair]:
        while True:
            pair = self._call(lambda: next(rows, None))
            if pair is None:
                return
            yield pair[0][1:], pair[1]


def overlay(base: Iterator[Pair], changes: list[Change]) -> Iterator[Pair]:
    """Return `base` with `changes` laid over it; both in key order, None marks a deletion."""
    below = next(base, None)
    for key, value in changes:
        while below is not None and below[0] < key:
            yield below
            below = next(base, None)
        if below is not None and below[0] == key:
            below = next(base, None)
        if value is not None:
            yield key, value
    while below is not None:
        yield below
        below = next(base, None)


def _open_error(path: Path, error: Exception) -> DatabaseError:
    words = _words(error)
    if words.startswith("IO error: lock "):
        return DatabaseLockedError(
            f"database {path}: open in another process ({words}); stop the other node, or give "
            f"this one its own data folder; do not delete the LOCK file"
        )
    if isinstance(error, plyvel.CorruptionError):
        return DatabaseDamagedError(
            f"database {path}: {words}; keep the journal, move this folder away and sync again"
        )
    return DatabaseError(f"database {path}: {words}")


def _words(error: Exception) -> str:
    """Return LevelDB's message as text; plyvel hands it over as bytes."""
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(error)
