"""Keeps the records of weight submissions (`chain.submission_state`) in the node's folder.

Rules:
1. One file for each record, replaced whole: written aside, synced, renamed, the folder synced.
   Whenever the process is killed, the next one finds the old record or the new one.
2. `save` returns when the record is on the disk; not before does `records` show it.
3. A file names its owner (network and hotkey). One that is damaged, or of another owner, stops the
   node by name: taken for an empty one, it could make the node submit twice.
4. The newest `KEPT_EPOCHS` records of each mechanism are kept.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import trio

from chain.errors import ChainError, ChainErrorCode
from chain.submission_state import SubmissionRecord
from protocol.codec import Digest, Record, decode, encode, sha256
from protocol.errors import DecodeError
from validator_node.errors import NodeError

KEPT_EPOCHS = 32
LIMIT_BYTES = 1024 * 1024
OWNER_DOMAIN = b"validator-node/submissions/1\n"

_NAME = re.compile(r"(\d+)-(\d+)\.submission")


class SubmissionBookError(NodeError):
    """The records of earlier submissions cannot be read; the message names the file."""


class _File(Record):
    """What a file holds."""

    owner: Digest
    record: SubmissionRecord


class SubmissionBook:
    """The records of one hotkey in one network; open it with `open`.

    With `in_thread=False` the disk is written in place: for tests under trio's autojump clock,
    which takes waiting for a thread for idleness.
    """

    def __init__(self, folder: Path, owner: bytes, *, in_thread: bool = True) -> None:
        self._folder = folder
        self._owner = owner
        self._in_thread = in_thread
        self._records: dict[tuple[int, int], SubmissionRecord] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        network_id: bytes,
        hotkey: bytes,
        in_thread: bool = True,
        create: bool = True,
    ) -> SubmissionBook:
        """Return the book in `folder`, made if need be; without `create` nothing is, to look only.

        Raises `SubmissionBookError` for what cannot be read.
        """
        book = cls(folder, sha256(OWNER_DOMAIN, network_id, hotkey), in_thread=in_thread)
        try:
            if create:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync_folder(folder.parent)
            elif not folder.exists():
                return book
            for path in sorted(folder.iterdir()):
                if _NAME.fullmatch(path.name):
                    record = book._read(path)
                    book._records[record.mechanism, record.epoch] = record
        except OSError as error:
            raise SubmissionBookError(f"submission records {folder}: {error}") from error
        return book

    def records(self, mechanism: int) -> tuple[SubmissionRecord, ...]:
        """Return the kept records of a mechanism, by ascending epoch; from any thread."""
        known = sorted(self._records.copy().items(), key=lambda item: item[0])
        return tuple(record for key, record in known if key[0] == mechanism)

    def mechanisms(self) -> tuple[int, ...]:
        """Return the mechanisms that have records, ascending; may be called from any thread."""
        return tuple(sorted({mechanism for mechanism, _ in tuple(self._records)}))

    async def save(self, record: SubmissionRecord) -> None:
        """Write `record`, then forget the oldest beyond the kept ones (rules 1, 2 and 4).

        Raises `ChainError` state_unwritable: a disk that is full today may not be tomorrow.
        """
        data = encode(_File(owner=self._owner, record=record))
        path = self._path(record.mechanism, record.epoch)
        epochs = {one.epoch for one in self.records(record.mechanism)} | {record.epoch}
        old = sorted(epochs)[:-KEPT_EPOCHS]
        dropped = [self._path(record.mechanism, epoch) for epoch in old]
        try:
            if self._in_thread:
                # Not abandoned when cancelled: two writers would use the same file aside.
                await trio.to_thread.run_sync(_replace, path, data, dropped)
            else:
                await trio.lowlevel.checkpoint()
                _replace(path, data, dropped)
        except OSError as error:
            raise ChainError(ChainErrorCode.STATE_UNWRITABLE, f"{path}: {error}") from error
        self._records[record.mechanism, record.epoch] = record
        for epoch in old:
            self._records.pop((record.mechanism, epoch), None)

    def _path(self, mechanism: int, epoch: int) -> Path:
        return self._folder / f"{mechanism}-{epoch}.submission"

    def _read(self, path: Path) -> SubmissionRecord:
        help_text = (
            "Repair the disk or restore the file; without this folder the node submits by what "
            "the chain alone shows"
        )
        try:
            file: _File = decode(_File, path.read_bytes(), limit_bytes=LIMIT_BYTES)
        except DecodeError as error:
            raise SubmissionBookError(
                f"submission record {path}: damaged: {error}. {help_text}"
            ) from error
        if file.owner != self._owner:
            raise SubmissionBookError(
                f"submission record {path}: of another network or hotkey; give each its own "
                "state folder"
            )
        if self._path(file.record.mechanism, file.record.epoch) != path:
            raise SubmissionBookError(
                f"submission record {path}: it is of mechanism {file.record.mechanism}, epoch "
                f"{file.record.epoch}. {help_text}"
            )
        return file.record


def _replace(path: Path, data: bytes, dropped: list[Path]) -> None:
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    for old in dropped:
        old.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
