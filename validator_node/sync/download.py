"""Loading a snapshot from several peers and making a database of it.

Rules:
1. Chunks come from all holders at once, `PARALLEL` at a time, each checked by its hash and kept in
   a folder, so that whatever interrupts the download does not begin it again.
2. The database is built beside the running one and moved into its place at the next start
   (`install_prepared`), in a way that survives a crash at every point: there is always one whole
   database. Evidence and the node's own memory are carried over.
3. A snapshot whose chunks do not hash to the certified root is a lie of whoever made its manifest.
   One whose manifest contradicts its offer, or cannot be of any state, is found out before
   anything but the manifest is fetched.
4. An attempt ends when no chunk came for a while, or after `STALLS` times as long in all, for a
   manifest can promise anything. What came is kept for the next attempt, of `KEPT` snapshots.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from protocol.codec import decode, sha256
from protocol.errors import ProtocolError
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from storage.database import Column, Database, Meta, WriteBatch
from storage.errors import SnapshotError
from storage.snapshot_format import MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, check_shape
from storage.snapshots import SnapshotChunk, SnapshotManifest, install
from validator_node.anchoring import write_anchor
from validator_node.blobs import BlobFetcher, BlobUnavailableError
from validator_node.errors import SnapshotRefusedError, SyncError
from validator_node.sync.candidates import Candidate
from validator_node.sync.records import SnapshotOffer

PARALLEL = 4
STALL_S = 30.0
STALLS = 6
KEPT = 4
"""Unfinished downloads kept on the disk."""
SPACE_FACTOR = 3
"""Free space needed: the chunks, the database made of them, and room to breathe."""

log = structlog.get_logger(__name__)


@dataclass
class Progress:
    """How far a download is, for logs and metrics."""

    bytes_wanted: int = 0
    bytes_loaded: int = 0
    phase: str = field(default="idle")


class Downloader:
    """Turns a proven snapshot offer into a database that waits to be installed."""

    def __init__(self, state_dir: Path, genesis: Genesis, fetcher: BlobFetcher) -> None:
        self._state_dir = state_dir
        self._genesis = genesis
        self._fetcher = fetcher
        self.progress = Progress()

    async def load(
        self,
        candidate: Candidate,
        handovers: tuple[CheckpointCertificate, ...],
        *,
        stall_s: float = STALL_S,
    ) -> None:
        """Prepare the snapshot; it is installed at the next start.

        `stall_s` bounds the seconds without a new chunk, and the whole attempt (rule 4).

        Raises `BlobUnavailableError` when no holder had a chunk, or not in time,
        `SnapshotRefusedError` and `SnapshotError` for a manifest or chunks that do not lead to the
        certified root, and for trouble of this node's own `SyncError` (its disk is too small),
        `StorageError` or `OSError`.
        """
        offer = candidate.offer
        self._check_space(offer.size)
        manifest = await self._manifest(candidate, stall_s)
        folder = self._folder(manifest.digest)
        self.progress = Progress(bytes_wanted=manifest.size, phase="loading")
        await self._load_in_time(candidate, manifest, folder, stall_s)
        self.progress.phase = "installing"
        try:
            await trio.to_thread.run_sync(
                _build, self._state_dir, self._genesis, offer, manifest, handovers, folder
            )
        except SnapshotError:
            shutil.rmtree(folder, ignore_errors=True)  # it can only fail again
            raise
        shutil.rmtree(self._state_dir / "sync", ignore_errors=True)
        self.progress.phase = "prepared"

    def _folder(self, digest: bytes) -> Path:
        """Return the folder for the chunks of a manifest, and remove those used longest ago."""
        every = self._state_dir / "sync"
        folder = every / digest.hex()[:32]
        folder.mkdir(parents=True, exist_ok=True)
        others = [path for path in every.iterdir() if path != folder]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[KEPT - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
        return folder

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._state_dir).free
        if free < SPACE_FACTOR * size:
            raise SyncError(
                f"{self._state_dir}: a snapshot of {size:,} bytes needs {SPACE_FACTOR * size:,} "
                f"free, there are {free:,}; make room"
            )

    async def _manifest(self, candidate: Candidate, stall_s: float) -> SnapshotManifest:
        data = await self._fetcher.fetch(
            candidate.offer.manifest,
            size=None,
            holders=candidate.holders,
            max_bytes=MAX_MANIFEST_BYTES,
            deadline_s=stall_s,
        )
        checkpoint = candidate.offer.certificate.checkpoint
        try:
            manifest = decode(SnapshotManifest, data, limit_bytes=MAX_MANIFEST_BYTES)
        except ProtocolError as error:
            raise SnapshotRefusedError(
                f"the manifest of slot {checkpoint.seq} is unreadable"
            ) from error
        if (manifest.seq, manifest.state_root, manifest.size) != (
            checkpoint.seq,
            checkpoint.state_root,
            candidate.offer.size,
        ):
            raise SnapshotRefusedError(
                f"the manifest is not of the checkpoint at slot {checkpoint.seq}"
            )
        check_shape(manifest)
        return manifest

    async def _load_in_time(
        self, candidate: Candidate, manifest: SnapshotManifest, folder: Path, stall_s: float
    ) -> None:
        with trio.move_on_after(STALLS * stall_s) as attempt:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, attempt, stall_s)
                await self._load_chunks(candidate, manifest, folder)
                nursery.cancel_scope.cancel()
        if attempt.cancelled_caught:
            progress = self.progress
            why = f"{progress.bytes_loaded} of {progress.bytes_wanted} bytes came in time"
            raise BlobUnavailableError(manifest.digest, {}, why)

    async def _watch(self, attempt: trio.CancelScope, stall_s: float) -> None:
        """End the attempt when nothing has come for `stall_s`."""
        before = -1
        while self.progress.bytes_loaded > before:
            before = self.progress.bytes_loaded
            await trio.sleep(stall_s)
        attempt.cancel()

    async def _load_chunks(
        self, candidate: Candidate, manifest: SnapshotManifest, folder: Path
    ) -> None:
        waiting = list(enumerate(manifest.chunks))

        async def work() -> None:
            while waiting:
                index, chunk = waiting.pop()
                await self._load_chunk(candidate, index, chunk, folder)

        async with trio.open_nursery() as nursery:
            for _ in range(PARALLEL):
                nursery.start_soon(work)

    async def _load_chunk(
        self, candidate: Candidate, index: int, chunk: SnapshotChunk, folder: Path
    ) -> None:
        path = folder / chunk.digest.hex()
        if await trio.to_thread.run_sync(_is_whole, path, chunk):
            self.progress.bytes_loaded += chunk.size
            return
        turn = index % len(candidate.holders)
        data = await self._fetcher.fetch(
            chunk.digest,
            size=chunk.size,
            holders=candidate.holders[turn:] + candidate.holders[:turn],
            max_bytes=MAX_CHUNK_BYTES,
            deadline_s=STALL_S,
        )
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(data)
        unfinished.rename(path)
        self.progress.bytes_loaded += chunk.size


def _is_whole(path: Path, chunk: SnapshotChunk) -> bool:
    return path.exists() and sha256(path.read_bytes()) == chunk.digest


def _build(
    state_dir: Path,
    genesis: Genesis,
    offer: SnapshotOffer,
    manifest: SnapshotManifest,
    handovers: tuple[CheckpointCertificate, ...],
    folder: Path,
) -> None:
    """Make `db.prepared` of the chunks; nothing else sees it before it is whole."""
    building = state_dir / "db.building"
    shutil.rmtree(building, ignore_errors=True)

    def read_chunk(chunk: SnapshotChunk) -> bytes:
        path = folder / chunk.digest.hex()
        data = path.read_bytes()
        if sha256(data) != chunk.digest:  # it was right when it came
            path.unlink()
            raise SyncError(f"{path}: this disk damaged it; it is fetched again")
        return data

    with Database.open(building, create=True) as database:
        install(database, manifest, read_chunk)
        write_anchor(database, genesis, offer.certificate, offer.decided, handovers)
    prepared = state_dir / "db.prepared"
    shutil.rmtree(prepared, ignore_errors=True)
    building.rename(prepared)
    _sync_folder(state_dir)


def install_prepared(state_dir: Path) -> bool:
    """Put a prepared database into the place of the old one; return whether there was one."""
    prepared, current, old = (state_dir / name for name in ("db.prepared", "db", "db.replaced"))
    if not prepared.exists():
        if old.exists() and not current.exists():
            old.rename(current)  # the process ended between the two renames below
        shutil.rmtree(old, ignore_errors=True)
        return False
    if current.exists():
        _carry_over(current, prepared)
        shutil.rmtree(old, ignore_errors=True)
        current.rename(old)
    prepared.rename(current)
    _sync_folder(state_dir)
    shutil.rmtree(old, ignore_errors=True)
    return True


def _carry_over(current: Path, prepared: Path) -> None:
    """Copy what a snapshot does not hold: evidence, and what the node remembers for itself."""
    with Database.open(current) as source, Database.open(prepared) as target:
        batch = WriteBatch()
        for column, prefix in (
            (Column.META, Meta.EVIDENCE),
            (Column.LOCAL, b""),
            (Column.AUDIT, b""),
        ):
            for key, value in source.iterate(column, prefix):
                batch.put(column, key, value)
        target.write(batch)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
