"""Changes that reach the database together, and reading through those not yet written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from storage.columns import Column
from storage.errors import BatchError

Pair = tuple[bytes, bytes]
Change = tuple[bytes, bytes | None]


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
        self.check_open()
        self._changes[column + key] = value

    def delete(self, column: Column, key: bytes) -> None:
        """Remove `key` when the batch is written; a key that is not there is no error."""
        self.check_open()
        self._changes[column + key] = None

    def discard(self) -> None:
        """Give the batch up. What was built on it (state tree, ledger) falls back to the disk."""
        self.check_open()
        self._state = "discarded"

    def changes(self, column: Column, prefix: bytes = b"", start: bytes = b"") -> list[Change]:
        """Return the changes under `prefix` of `column`, from the key `start` on, in key order.

        None marks a deletion.
        """
        full, first = column + prefix, column + start
        found = self._changes.items()
        return sorted((k[1:], v) for k, v in found if k >= first and k.startswith(full))

    def find(self, column: Column, key: bytes) -> Change | None:
        """Return the change of `key`, (key, None) for a deletion; None if it is not changed."""
        full = column + key
        return (key, self._changes[full]) if full in self._changes else None

    @property
    def content(self) -> Mapping[bytes, bytes | None]:
        """All changes by column and key."""
        return self._changes

    def mark_written(self) -> None:
        """Take no more changes. For the database, once the batch has reached it."""
        self.check_open()
        self._state = "written"

    def check_open(self) -> None:
        """Raise `BatchError` unless the batch is neither written nor discarded."""
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
        batch.check_open()
        self._batch = batch


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
