r"""The audit log: one entry an evaluation, hash-chained: nothing is changed or removed unnoticed.

Rules:
1. Each entry carries the digest of the one before; the first one's is 32 zero bytes. Whoever knows
   the digest of the last entry (`head`) can check everything before it. The chain protects against
   later changes, not against a node that writes what never happened.
2. `append` is memory only; `flush` writes what came since, in one synced batch, and may be called
   in a thread while the node goes on appending. A crash loses what was not flushed: the chain is
   then shorter, never broken.
3. Rotation: when more than `max_entries` are in the database, the oldest `segment` of them move to
   a file, and only then leave the database. At most `max_files` files are kept. The chain goes on
   through files and database; after the oldest file was dropped it begins in its middle. A new
   database beside old files goes on after the last file.
4. Entries tell what was evaluated and how it ended. They hold no submission and no output.

A file is `audit-<first>-<last>.log`, mode 0600: each entry's canonical bytes behind their length (4
bytes, big endian). The digest of an entry is the SHA-256 of b"platform/audit/v1\0" and its bytes.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from protocol.codec import U64, ZERO_DIGEST, Digest, Record, decode, encode, sha256
from protocol.errors import DecodeError
from storage.database import Column, Database, WriteBatch
from storage.errors import StorageError

AUDIT_TAG = b"platform/audit/v1\x00"
MAX_ENTRY_BYTES = 8_192
MAX_PENDING = 4_096
"""Entries in memory; one more flushes at once."""
_KEY_BYTES = 8
_LENGTH_BYTES = 4
_FILE = re.compile(r"^audit-(\d{16})-(\d{16})\.log\Z")

Word = Annotated[str, Meta(max_length=64)]


class AuditError(StorageError):
    """The audit log is not one chain; the message names the first entry that does not fit."""

    reason = "audit"


class Evaluated(Record):
    """What is told of one evaluation."""

    time_ms: U64
    """This node's clock."""
    job_id: U64
    submission_id: Digest
    module_hash: Digest
    policy_hash: Digest
    outcome_class: Word
    """Empty when there was a fault."""
    verdict_hash: Digest
    """32 zero bytes when there was a fault."""
    fuel_used: U64
    host_calls: Annotated[tuple[tuple[Word, U64], ...], Meta(max_length=64)]
    """Host functions by name, and how often they were called."""
    fault: Word
    """The fault's reason, empty for none."""


class AuditEntry(Record):
    """An entry of the chain."""

    position: U64
    previous: Digest
    event: Evaluated

    def digest(self) -> bytes:
        """Return what the next entry carries."""
        return sha256(AUDIT_TAG, encode(self))


@dataclass(frozen=True)
class AuditBounds:
    """How much is kept, and where."""

    max_entries: int = 100_000
    """Entries in the database, about 300 bytes each."""
    segment: int = 10_000
    """Entries of a file."""
    max_files: int = 100

    def __post_init__(self) -> None:
        """Refuse bounds under which a rotation could leave the database without the last entry."""
        if not (1 <= self.segment <= self.max_entries and self.max_files >= 1):
            raise ValueError(f"audit log: {self}: 1 <= segment <= max_entries, max_files >= 1")


@dataclass(frozen=True)
class AuditReport:
    """A chain that holds: positions `first` to `last` (-1 for none), and the digest of the last."""

    first: int
    last: int
    head: bytes
    files: int


class AuditLog:
    """The audit log of an open database; files lie in `folder`."""

    def __init__(self, database: Database, folder: Path, bounds: AuditBounds | None = None) -> None:
        """Go on after the last entry. Raises `AuditError` when it cannot be read."""
        self._database = database
        self._folder = folder
        self._bounds = bounds or AuditBounds()
        self._flushing = threading.Lock()
        self._pending: deque[AuditEntry] = deque()
        self._first, last = _ends(database, folder)
        self._next = 0 if last is None else last.position + 1
        self.head = ZERO_DIGEST if last is None else last.digest()
        """The digest of the last entry, 32 zero bytes before the first."""
        self._written = self._next

    def __len__(self) -> int:
        """Return the entries ever made."""
        return self._next

    @property
    def pending(self) -> int:
        """Entries that a crash would lose."""
        return len(self._pending)

    def append(self, event: Evaluated) -> AuditEntry:
        """Chain an entry for `event` and return it; `flush` brings it to the disk (rule 2)."""
        entry = AuditEntry(position=self._next, previous=self.head, event=event)
        self._next += 1
        self.head = entry.digest()
        self._pending.append(entry)
        if len(self._pending) > MAX_PENDING:
            self.flush()
        return entry

    def flush(self) -> int:
        """Write what was appended and rotate; return how many entries were written. Blocks."""
        with self._flushing:
            entries = self._pending.copy()  # one step, whoever appends meanwhile
            if entries:
                batch = WriteBatch()
                for entry in entries:
                    batch.put(Column.AUDIT, _key(entry.position), encode(entry))
                self._database.write(batch)
                for _ in entries:
                    self._pending.popleft()
                self._written = entries[-1].position + 1
            while self._written - self._first > self._bounds.max_entries:
                self._rotate()
            return len(entries)

    def _rotate(self) -> None:
        size = min(self._bounds.segment, self._written - self._first)
        rows = list(islice(self._database.iterate(Column.AUDIT), size))
        first, last = (int.from_bytes(key, "big") for key in (rows[0][0], rows[-1][0]))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"audit-{first:016}-{last:016}.log"
        content = b"".join(len(row).to_bytes(_LENGTH_BYTES, "big") + row for _, row in rows)
        _write_file(path, content)
        batch = WriteBatch()
        for key, _ in rows:
            batch.delete(Column.AUDIT, key)
        self._database.write(batch)
        self._first = last + 1
        for old in _files(self._folder)[: -self._bounds.max_files]:
            old.unlink()


def read_audit(database: Database, folder: Path) -> Iterator[AuditEntry]:
    """Yield the entries that are kept, oldest first. Raises `AuditError` for what is none.

    What a crash between writing a file and deleting its rows left in both places comes once.
    """
    last = -1
    for path in _files(folder):
        for row in _rows(path):
            entry = _entry(row, str(path))
            last = entry.position
            yield entry
    for key, row in database.iterate(Column.AUDIT):
        entry = _entry(row, f"position {int.from_bytes(key, 'big')}")
        if _key(entry.position) != key:
            raise AuditError(f"audit log: entry {entry.position} lies under {key.hex()}")
        if entry.position > last:
            yield entry


def verify_audit(
    database: Database, folder: Path, progress: Callable[[int], None] | None = None
) -> AuditReport:
    """Check the whole chain; `progress` gets each position. Raises `AuditError`."""
    first, last = -1, -1
    head = ZERO_DIGEST
    for entry in read_audit(database, folder):
        if first < 0:
            first = entry.position
            if first == 0 and entry.previous != ZERO_DIGEST:
                raise AuditError("audit log: entry 0 claims one before it")
        elif entry.position != last + 1:
            raise AuditError(f"audit log: entry {entry.position} follows entry {last}")
        elif entry.previous != head:
            raise AuditError(
                f"audit log: entry {entry.position} does not follow entry {last}: one of them was "
                f"changed"
            )
        last, head = entry.position, entry.digest()
        if progress is not None:
            progress(last)
    return AuditReport(first=first, last=last, head=head, files=len(_files(folder)))


def _key(position: int) -> bytes:
    return position.to_bytes(_KEY_BYTES, "big")


def _entry(row: bytes, where: str) -> AuditEntry:
    try:
        return decode(AuditEntry, row, limit_bytes=MAX_ENTRY_BYTES)
    except DecodeError as error:
        raise AuditError(f"audit log, {where}: {error}") from error


def _ends(database: Database, folder: Path) -> tuple[int, AuditEntry | None]:
    """Return the first position of the database, and the last entry, None for an empty log."""
    first = next(database.iterate(Column.AUDIT), None)
    if first is None:
        entry = None
        for path in _files(folder)[-1:]:
            for content in _rows(path):
                entry = _entry(content, str(path))
        return (0, None) if entry is None else (entry.position + 1, entry)
    position = low = int.from_bytes(first[0], "big")
    step = 1
    # positions have no gaps: leap ahead and halve, rather than read the whole log at a start
    while step:
        if database.get(Column.AUDIT, _key(position + step)) is not None:
            position += step
            step *= 2
        else:
            step //= 2
    row = database.get(Column.AUDIT, _key(position))
    assert row is not None
    return low, _entry(row, f"position {position}")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _FILE.match(path.name))


def _rows(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    at = 0
    while at < len(content):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(content[at:start], "big")
        if at > len(content):
            raise AuditError(f"audit log {path}: ends inside an entry")
        yield content[start:at]


def _write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
