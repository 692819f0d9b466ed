"""A database as it was at one moment, and how LevelDB is asked: bounds, and errors translated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import plyvel

from storage.columns import Column
from storage.errors import DatabaseClosedError
from storage.leveldb_errors import explained
from storage.write_batch import Pair

T = TypeVar("T")


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
        bounds = bounds_of(column, prefix, b"")
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
            return translated(self._path, operation)


def bounds_of(column: Column, prefix: bytes, start: bytes) -> dict[str, Any]:
    """Return plyvel's arguments for the keys under `prefix` that are not below `start`."""
    full = column + prefix
    trimmed = full.rstrip(b"\xff")  # a column's byte is never 0xff, so something is left
    return {
        "start": max(full, column + start),
        "stop": trimmed[:-1] + bytes([trimmed[-1] + 1]),
        "verify_checksums": True,
    }


def translated(path: Path, operation: Callable[[], T], opened: Path | None = None) -> T:
    """Return what `operation` returns; LevelDB's errors become the storage's (`explained`)."""
    try:
        return operation()
    except plyvel.Error as error:
        raise explained(path, error, opened) from error
