"""The snapshots on a node's disk: written, kept, read back chunk by chunk.

Their form is `storage.snapshot_format`'s, making a state of one is `storage.snapshot_install`'s.

Rules:
1. One folder a snapshot: the file `manifest`, and beside it a file for each chunk, named by its
   hash. It is written under another name, synced, and renamed when it is whole: what a crash leaves
   behind has that other name and is removed when the folder is opened.
2. The newest `keep` are kept. A chunk is hashed each time it is read; a damaged one answers None,
   and its snapshot is dropped, for a manifest promises all of its chunks.
3. `write` runs in a thread, everything else is called in any other at the same time.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from protocol.codec import decode, encode, sha256
from protocol.errors import DecodeError
from storage.errors import SnapshotCancelledError, SnapshotError
from storage.snapshot_format import MAX_MANIFEST_BYTES, cut, manifest_of
from storage.snapshot_format import SnapshotChunk as SnapshotChunk
from storage.snapshot_format import SnapshotManifest as SnapshotManifest
from storage.snapshot_install import install as install
from storage.write_batch import Pair

_MANIFEST = "manifest"
_WHOLE = "snapshot-"
_UNFINISHED = "unfinished-"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Held:
    path: Path
    manifest: SnapshotManifest
    digest: bytes
    chunks: dict[bytes, int] = field(repr=False)
    """Hash -> size in bytes."""


class SnapshotFolder:
    """The snapshots in one folder, newest first."""

    def __init__(self, path: Path, keep: int = 2) -> None:
        """Open the folder, making it if it is not there. Raises `SnapshotError`."""
        if keep < 1:
            raise SnapshotError(f"snapshots {path}: keep is {keep}, expected 1 or more")
        self._path = path
        self._keep = keep
        self._lock = threading.Lock()
        self.dropped = 0
        """Snapshots given up because something in them was missing or damaged."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = self._open()
        except OSError as error:
            raise SnapshotError(f"snapshots {path}: {error}") from error
        self.prune()

    def manifests(self) -> list[SnapshotManifest]:
        """Return the manifests of the whole snapshots, newest first."""
        with self._lock:
            return [held.manifest for held in self._held]

    def manifest_bytes(self, digest: bytes) -> bytes | None:
        """Return the canonical bytes of the manifest with this hash, or None."""
        with self._lock:
            found = next((held for held in self._held if held.digest == digest), None)
        return None if found is None else encode(found.manifest)

    def chunk(self, digest: bytes) -> bytes | None:
        """Return the chunk with this hash, or None; a damaged one drops its snapshot (rule 2)."""
        with self._lock:
            holders = [held for held in self._held if digest in held.chunks]
        for held in holders:
            try:
                data = (held.path / digest.hex()).read_bytes()
            except FileNotFoundError:
                self._drop(held, f"chunk {digest.hex()} is missing")
                continue
            except OSError as error:  # no descriptor left, for one: the chunk may be whole
                log.warning("snapshot chunk not read", chunk=digest.hex(), reason=str(error))
                continue
            if sha256(data) == digest:
                return data
            self._drop(held, f"chunk {digest.hex()} is damaged")
        return None

    def write(
        self,
        rows: Iterable[Pair],
        seq: int,
        state_root: bytes,
        *,
        cancelled: Callable[[], bool],
    ) -> SnapshotManifest:
        """Write the state `rows`, in key order, as the snapshot after slot `seq`; blocking.

        `cancelled` is asked before each chunk. Raises `SnapshotCancelledError`, and `SnapshotError`
        when the disk refuses or the rows are out of order; nothing is left behind then.
        """
        unfinished = self._path / f"{_UNFINISHED}{seq:020d}"
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
            manifest = manifest_of(seq, state_root, _written(unfinished, rows, cancelled))
            _write_synced(unfinished / _MANIFEST, encode(manifest))
            _sync_folder(unfinished)
            self._take_in(unfinished, manifest)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise SnapshotError(f"snapshots {self._path}, slot {seq}: {error}") from error
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self.prune()
        return manifest

    def prune(self) -> None:
        """Remove all but the newest `keep` snapshots."""
        with self._lock:
            old, self._held = self._held[self._keep :], self._held[: self._keep]
        for held in old:
            shutil.rmtree(held.path, ignore_errors=True)

    def _take_in(self, unfinished: Path, manifest: SnapshotManifest) -> None:
        target = self._path / f"{_WHOLE}{manifest.seq:020d}"
        with self._lock:
            self._held = [held for held in self._held if held.path != target]
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
            _sync_folder(self._path)
            self._held.append(_held(target, manifest))
            self._held.sort(key=lambda held: held.manifest.seq, reverse=True)

    def _drop(self, held: _Held, reason: str) -> None:
        with self._lock:
            if held not in self._held:
                return  # pruned, or dropped by somebody else who read it
            self._held = [other for other in self._held if other is not held]
            self.dropped += 1
        log.warning("snapshot dropped", seq=held.manifest.seq, reason=reason)
        shutil.rmtree(held.path, ignore_errors=True)

    def _open(self) -> list[_Held]:
        found = []
        for path in sorted(self._path.iterdir(), reverse=True):
            if path.name.startswith(_UNFINISHED):
                shutil.rmtree(path)
            elif path.name.startswith(_WHOLE):
                held = _read(path)
                if held is None:
                    self.dropped += 1
                    shutil.rmtree(path)
                else:
                    found.append(held)
        return found


def look_at_snapshots(path: Path) -> list[tuple[Path, SnapshotManifest | None]]:
    """Return the snapshots in a folder, newest first, and change nothing; None for a damaged one.

    For commands that only look: opening a `SnapshotFolder` removes what it would not offer.
    """
    if not path.is_dir():
        return []
    whole = sorted((one for one in path.iterdir() if one.name.startswith(_WHOLE)), reverse=True)
    found = [(one, _read(one)) for one in whole]
    return [(one, None if held is None else held.manifest) for one, held in found]


def _written(
    folder: Path, rows: Iterable[Pair], cancelled: Callable[[], bool]
) -> Iterator[tuple[SnapshotChunk, int]]:
    """Write the chunks of `rows` into `folder`, one after the other."""
    chunks = cut(rows)
    while True:
        if cancelled():
            raise SnapshotCancelledError(f"snapshot {folder}: writing was given up")
        found = next(chunks, None)
        if found is None:
            return
        data, pairs = found
        digest = sha256(data)
        _write_synced(folder / digest.hex(), data)
        yield SnapshotChunk(digest=digest, size=len(data)), pairs


def _read(path: Path) -> _Held | None:
    """Return the snapshot in `path` if its manifest is whole and every chunk has its size."""
    try:
        data = (path / _MANIFEST).read_bytes()
        manifest = decode(SnapshotManifest, data, limit_bytes=MAX_MANIFEST_BYTES)
        sizes = [(path / chunk.digest.hex()).stat().st_size for chunk in manifest.chunks]
    except (OSError, DecodeError) as error:
        log.warning("snapshot dropped", path=str(path), reason=str(error))
        return None
    if sizes != [chunk.size for chunk in manifest.chunks]:
        log.warning("snapshot dropped", path=str(path), reason="a chunk has the wrong size")
        return None
    return _held(path, manifest)


def _held(path: Path, manifest: SnapshotManifest) -> _Held:
    chunks = {chunk.digest: chunk.size for chunk in manifest.chunks}
    return _Held(path, manifest, manifest.digest, chunks)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
