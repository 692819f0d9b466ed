"""The write-ahead journal: what must be on disk before a signature leaves this node.

Rules:
1. `append` only buffers. `sync` writes everything buffered as one group with one write and one
   fsync; when it returns, the group survives a power failure. Before that nothing may be acted on.
2. After a failed write or fsync the journal is *failed* for good: the kernel may have dropped the
   dirty pages, and a second fsync that succeeds would prove nothing. End the process, open again.
3. `open` reads everything. It cuts at most one torn last group (`storage.journal_format` says what
   torn is); anything else amiss raises `JournalDamagedError` and changes nothing. A node whose
   journal is damaged or missing stays an observer until an epoch with a new consensus key.
4. A *marker* file outside the journal's folder tells a node that has forgotten from one that is
   new. It holds the journal's id and the first segment not pruned. Keep it in the data folder,
   beside the database rather than in it, so that resyncing the database does not remove it.
5. `prune` deletes whatever the old segments hold. What is still needed is appended again first:
   `rotate`, append the live vows and notes, `sync`, then `prune(1)`. Replaying both is harmless.
6. The folder is locked while the journal is open.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from protocol.codec import encode
from storage.errors import (
    JournalDamagedError,
    JournalError,
    JournalExistsError,
    JournalFailedError,
    JournalLockedError,
    JournalMissingError,
    JournalNotCreatedError,
)
from storage.journal_format import (
    JOURNAL_ID_BYTES,
    MAX_GROUP_BYTES,
    MAX_RECORD_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    encode_group,
    encode_segment_header,
    segment_name,
)
from storage.journal_reader import (
    JournalMarker,
    JournalScan,
    Recovered,
    only_a_header,
    read_marker,
    scan_journal,
    segment_numbers,
)

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024


class Journal:
    """An open journal. Use `Journal.create` or `Journal.open`, and `close` or a `with` block."""

    def __init__(self, folder: Path, marker: Path, *, segment_bytes: int, lock: int) -> None:
        self._folder = folder
        self._marker = marker
        self._segment_bytes = segment_bytes
        self._folder_fd = lock
        self._fd = -1
        self._journal_id = b""
        self._numbers: list[int] = []
        self._next_group = 1
        self._size = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._failed = False

    @classmethod
    def create(
        cls, folder: Path, marker: Path, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
    ) -> Self:
        """Start the journal of a node that never had one; the marker is written last.

        Raises `JournalExistsError` when the marker or any segment with a group is there.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = cls(folder, marker, segment_bytes=segment_bytes, lock=_lock(folder))
        try:
            _refuse_existing(folder, marker)
            # A crash before the marker was written leaves the first segment without any group.
            (folder / segment_name(1)).unlink(missing_ok=True)
            journal._journal_id = secrets.token_bytes(JOURNAL_ID_BYTES)
            journal._start_segment()
            _sync_folder(folder.parent)
            journal._write_marker(1)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def open(
        cls, folder: Path, marker: Path, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
    ) -> tuple[Self, Recovered]:
        """Open an existing journal and return it with everything it holds.

        Raises `JournalNotCreatedError` (a new node), `JournalMissingError` (a node that forgot),
        `JournalDamagedError` and `JournalLockedError`.
        """
        known = read_marker(marker)
        if known is None:
            if not segment_numbers(folder) or only_a_header(folder):
                raise JournalNotCreatedError(f"journal {folder}: there has never been one here")
            raise JournalDamagedError(marker, 0, "the marker is missing and segments exist")
        if not segment_numbers(folder):
            raise JournalMissingError(
                f"journal {folder}: marker {marker} exists and no segment does; this node must not "
                f"sign until an epoch with a new consensus key"
            )
        journal = cls(folder, marker, segment_bytes=segment_bytes, lock=_lock(folder))
        try:
            scan = scan_journal(folder, known)
            journal._continue(scan)
        except BaseException:
            journal.close()
            raise
        return journal, scan.recovered

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
    def segments(self) -> list[Path]:
        """The files of the journal, oldest first."""
        return [self._folder / segment_name(number) for number in self._numbers]

    @property
    def pending_bytes(self) -> int:
        """Bytes appended and not yet synced."""
        return self._pending_bytes

    def append(self, payload: bytes) -> None:
        """Buffer `payload` for the next `sync`.

        Raises `JournalError` beyond `MAX_RECORD_BYTES`, or `MAX_GROUP_BYTES` for the whole buffer.
        """
        self._check_usable()
        if len(payload) > MAX_RECORD_BYTES:
            raise JournalError(f"journal: {len(payload)} bytes, the limit is {MAX_RECORD_BYTES}")
        size = self._pending_bytes + RECORD_HEADER_BYTES + len(payload)
        if size > MAX_GROUP_BYTES:
            raise JournalError(f"journal: {size} unsynced bytes, the limit is {MAX_GROUP_BYTES}")
        self._pending.append(payload)
        self._pending_bytes = size

    def sync(self) -> None:
        """Write what was appended as one group and wait until it is on the disk.

        Raises `JournalFailedError` when that fails, now and ever after.
        """
        self._check_usable()
        if not self._pending:
            return
        group = encode_group(self._journal_id, self._next_group, self._pending)
        if self._size > SEGMENT_HEADER_BYTES and self._size + len(group) > self._segment_bytes:
            self.rotate()
        self._write(group)
        self._size += len(group)
        self._next_group += 1
        self._pending.clear()
        self._pending_bytes = 0

    def rotate(self) -> None:
        """Begin a new segment; what is buffered goes there with the next `sync`."""
        self._check_usable()
        self._start_segment()

    def prune(self, keep_segments: int) -> int:
        """Delete all but the newest `keep_segments` (at least 1) and return how many went.

        See rule 5 for what must be appended again before.
        """
        self._check_usable()
        if keep_segments < 1:
            raise JournalError(f"journal: cannot keep {keep_segments} segments, at least 1")
        old, kept = self._numbers[:-keep_segments], self._numbers[-keep_segments:]
        if not old:
            return 0
        try:
            # The marker first: a crash in between leaves files that the next open removes.
            self._write_marker(kept[0])
            for number in old:
                (self._folder / segment_name(number)).unlink(missing_ok=True)
            os.fsync(self._folder_fd)
        except OSError as error:
            raise JournalError(f"journal {self._folder}: cannot prune: {error}") from error
        self._numbers = kept
        return len(old)

    def close(self) -> None:
        """Release the files and the lock. What was not synced is dropped, as in a crash."""
        for fd in (self._fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder_fd = -1

    def _check_usable(self) -> None:
        if self._failed:
            raise JournalFailedError(f"journal {self._folder}: an earlier write failed; restart")
        if self._fd < 0:
            raise JournalError(f"journal {self._folder}: is closed")

    def _continue(self, scan: JournalScan) -> None:
        self._journal_id = scan.journal_id
        self._numbers = scan.numbers
        self._next_group = scan.next_group
        self._size = scan.end
        for number in segment_numbers(self._folder):
            if number not in scan.numbers:
                (self._folder / segment_name(number)).unlink()
        self._fd = os.open(self.segments[-1], os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._fd, scan.end)
        # What was read may so far be only in the page cache (the process died, the machine did
        # not), and the node is about to rely on it.
        os.fsync(self._fd)
        os.fsync(self._folder_fd)

    def _start_segment(self) -> None:
        number = self._numbers[-1] + 1 if self._numbers else 1
        header = SegmentHeader(self._journal_id, number, self._next_group)
        path = self._folder / segment_name(number)
        self._failed = True
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = fd
            _write_all(fd, encode_segment_header(header))
            os.fsync(fd)
            os.fsync(self._folder_fd)
        except OSError as error:
            raise JournalFailedError(f"journal {path}: {error}") from error
        self._failed = False
        self._numbers = [*self._numbers, number]
        self._size = SEGMENT_HEADER_BYTES

    def _write(self, data: bytes) -> None:
        """Write and sync; the journal counts as failed unless this comes to its end."""
        self._failed = True
        try:
            _write_all(self._fd, data)
            os.fsync(self._fd)
        except OSError as error:
            raise JournalFailedError(f"journal {self.segments[-1]}: {error}") from error
        self._failed = False

    def _write_marker(self, first_segment: int) -> None:
        marker = JournalMarker(journal_id=self._journal_id, first_segment=first_segment)
        new = self._marker.with_name(self._marker.name + ".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(fd, encode(marker))
            os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(self._marker)
        _sync_folder(self._marker.parent)


def _refuse_existing(folder: Path, marker: Path) -> None:
    if marker.exists():
        raise JournalExistsError(f"journal {folder}: marker {marker} exists, open it instead")
    if segment_numbers(folder) and not only_a_header(folder):
        raise JournalExistsError(
            f"journal {folder}: segments exist without marker {marker}; restore the marker"
        )


def _lock(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise JournalLockedError(
            f"journal {folder}: open in another process; stop the other node"
        ) from error
    return fd


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
