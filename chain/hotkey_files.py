"""What the embedded chain remembers: one JSON file a hotkey, shared by several processes.

Rules:
1. A file is replaced whole: written aside, synced, renamed over the old one, and the directory
   synced. Whenever a process is killed, a reader sees the old file or the new one. Readers
   therefore take no lock.
2. A writer holds the hotkey's lock file from reading to renaming. The lock is `flock`, which the
   kernel releases when its holder dies and which excludes threads of one process as well
   (`lockf` would not). The lock file is never removed, or two writers could hold two of them.
3. A file names the genesis it belongs to. One that cannot be read, or is of another chain, is an
   error naming the path; it is never taken for an empty one.
4. Calls block: on the disk, and on another writer. They belong in a thread.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from chain.errors import ChainError, ChainErrorCode
from protocol.codec import U16, U64

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HISTORY_LIMIT = 1024
"""Submissions kept for each hotkey; older ones are forgotten, the stored weights never."""


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An included weights call. `vector` is what was stored, upscaled; `hotkey` is in hex."""

    epoch: U64
    block: U64
    hotkey: str
    mechanism: U16
    version_key: U64
    vector: tuple[tuple[U16, U16], ...]


class HotkeyState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One hotkey's file.

    `latest` holds the last submission of each mechanism, `history` the kept ones in the order of
    inclusion; `nonce` counts every call ever included.
    """

    genesis: str
    hotkey: str
    nonce: U64 = 0
    latest: dict[int, Submission] = {}
    history: tuple[Submission, ...] = ()

    def including(self, submission: Submission) -> HotkeyState:
        """Return the state after `submission`."""
        return HotkeyState(
            genesis=self.genesis,
            hotkey=self.hotkey,
            nonce=self.nonce + 1,
            latest={**self.latest, submission.mechanism: submission},
            history=(*self.history, submission)[-HISTORY_LIMIT:],
        )

    def last_update(self, mechanism: int, at_block: int | None = None) -> int:
        """Return the block of the last submission for `mechanism`, 0 if there is none.

        With `at_block`, the last one up to and including that block, as far as history reaches.
        """
        latest = self.latest.get(mechanism)
        if latest is None:
            return 0
        if at_block is None or latest.block <= at_block:
            return latest.block
        earlier = (
            past.block
            for past in reversed(self.history)
            if past.mechanism == mechanism and past.block <= at_block
        )
        return next(earlier, 0)


class HotkeyFiles:
    """The files of one chain in `directory`, which is made when first written to."""

    def __init__(self, directory: Path, genesis: bytes) -> None:
        self._directory = directory
        self._genesis = genesis.hex()

    def read(self, hotkey: bytes) -> HotkeyState:
        """Return the hotkey's state, a fresh one if it has no file yet.

        Raises `ChainError` state_unreadable for a file that is damaged or of another chain.
        """
        path = self._path(hotkey)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return HotkeyState(genesis=self._genesis, hotkey=hotkey.hex())
        except OSError as error:
            raise self._unreadable(path, str(error)) from error
        try:
            state = msgspec.json.decode(content, type=HotkeyState)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._unreadable(path, f"{len(content)} bytes, {error}") from error
        if (state.genesis, state.hotkey) != (self._genesis, hotkey.hex()):
            raise self._unreadable(
                path,
                f"it is of genesis {state.genesis} and hotkey {state.hotkey}, this chain's "
                f"genesis is {self._genesis}; give each chain a directory of its own",
            )
        return state

    @contextmanager
    def locked(self, hotkey: bytes) -> Iterator[HotkeyState]:
        """Hold the hotkey's lock, waiting for it, and yield the state as it then is.

        Raises `ChainError` state_unwritable if the lock file cannot be made.
        """
        path = self._path(hotkey).with_suffix(".lock")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._unwritable(path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.read(hotkey)
        finally:
            os.close(lock)

    def replace(self, hotkey: bytes, state: HotkeyState) -> None:
        """Write `state` durably; only within `locked`.

        Raises `ChainError` state_unwritable (a full disk, say); the old file then remains, unless
        only the last sync failed.
        """
        path = self._path(hotkey)
        try:
            self._write(path, msgspec.json.encode(state))
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _write(self, path: Path, content: bytes) -> None:
        # A fixed name is safe under the lock, and what a killed writer left is overwritten.
        aside = path.with_suffix(".new")
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, hotkey: bytes) -> Path:
        return self._directory / f"{hotkey.hex()}.json"

    def _unreadable(self, path: Path, reason: str) -> ChainError:
        return ChainError(ChainErrorCode.STATE_UNREADABLE, f"{path}: {reason}")

    def _unwritable(self, path: Path, error: OSError) -> ChainError:
        return ChainError(
            ChainErrorCode.STATE_UNWRITABLE, f"{path}: {error}; make room or correct the rights"
        )
