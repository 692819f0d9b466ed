"""Snapshots of the own state: frozen at a checkpoint's slot, written and offered once it is stable.

Rules:
1. Freezing costs one flush: LevelDB keeps the old version while the chunks are written in a thread,
   so no turn waits for it.
2. One snapshot at a time, at least `every` slots after the last, so that writing the state does not
   become the node's main work.
3. A snapshot is offered with the certificates that prove it, which are kept in a folder beside it.
"""

from __future__ import annotations

import threading
from pathlib import Path

import structlog
import trio

from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.records.checkpoint import CheckpointCertificate
from storage.database import Column, FrozenDatabase
from storage.errors import StorageError
from storage.snapshots import SnapshotFolder, SnapshotManifest
from validator_node.store import Store
from validator_node.sync.records import SnapshotOffer

KEPT = 2
EVERY_SLOTS = 1024

log = structlog.get_logger(__name__)


class SnapshotKeeper:
    """Writes and offers this node's snapshots."""

    def __init__(self, store: Store, state_dir: Path, *, every: int = EVERY_SLOTS) -> None:
        self._store = store
        self.folder = SnapshotFolder(state_dir / "snapshots", keep=KEPT)
        self._proofs = state_dir / "snapshot-proofs"
        self._proofs.mkdir(parents=True, exist_ok=True)
        self._every = every
        self._frozen: tuple[int, bytes, FrozenDatabase] | None = None
        self._certified = trio.Event()
        self._certificate: CheckpointCertificate | None = None
        self._offers = self._read_offers()
        self.failed = 0

    def offers(self) -> tuple[SnapshotOffer, ...]:
        """Return what can be offered, newest first."""
        return tuple(self._offers)

    def blob(self, digest: bytes) -> bytes | None:
        """Return a manifest or a chunk by its hash."""
        return self.folder.manifest_bytes(digest) or self.folder.chunk(digest)

    def on_executed(self, seq: int) -> None:
        """Freeze the state after slot `seq` if a snapshot of it is due."""
        interval = self._store.genesis.parameters.checkpoint_interval
        if seq % interval or self._certificate is not None:
            return
        last = self._offers[0].certificate.checkpoint.seq if self._offers else 0
        if seq < last + self._every:
            return
        root = self._store.root_after(seq)
        if root is None:
            return
        self._thaw()
        self._frozen = (seq, root, self._store.freeze())

    def on_stable(self, certificate: CheckpointCertificate) -> None:
        """Write what was frozen if this checkpoint certifies it."""
        if self._frozen is None or self._certificate is not None:
            return
        seq, root, _ = self._frozen
        checkpoint = certificate.checkpoint
        if checkpoint.seq == seq and checkpoint.state_root == root:
            self._certificate = certificate
            self._certified.set()
        elif checkpoint.seq > seq:
            self._thaw()

    async def run(self) -> None:
        """Write snapshots for ever."""
        try:
            while True:
                await self._certified.wait()
                await self.write()
        finally:
            self._thaw()

    async def write(self) -> None:
        """Write the snapshot that was frozen and certified."""
        try:
            await self._write()
        except (StorageError, OSError) as error:
            self.failed += 1
            log.warning("snapshot not written", reason=str(error))
        self._certified = trio.Event()
        self._certificate = None
        self._thaw()

    async def _write(self) -> None:
        if self._frozen is None or self._certificate is None:
            raise AssertionError("a snapshot is written from a frozen, certified state")
        seq, root, frozen = self._frozen
        decided = self._store.certificate_at(seq)
        if decided is None:
            return
        certificate = self._certificate
        stop = threading.Event()

        def write() -> SnapshotManifest:
            rows = frozen.iterate(Column.STATE_VALUES)
            return self.folder.write(rows, seq, root, cancelled=stop.is_set)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_when_cancelled, stop)
            manifest = await trio.to_thread.run_sync(write)
            nursery.cancel_scope.cancel()
        offer = SnapshotOffer(
            certificate=certificate, decided=decided, manifest=manifest.digest, size=manifest.size
        )
        self._offer_path(offer.manifest).write_bytes(encode(offer))
        self._offers = self._read_offers()
        log.info("snapshot written", seq=seq, bytes=offer.size)

    def _offer_path(self, manifest: bytes) -> Path:
        return self._proofs / manifest.hex()

    def _read_offers(self) -> list[SnapshotOffer]:
        offers = []
        for manifest in self.folder.manifests():
            path = self._offer_path(manifest.digest)
            try:
                offers.append(decode(SnapshotOffer, path.read_bytes()))
            except (OSError, ProtocolError):
                continue  # written, but the process ended before the certificates were
        kept = {self._offer_path(offer.manifest) for offer in offers}
        for path in self._proofs.iterdir():
            if path not in kept:
                path.unlink()
        return offers

    def _thaw(self) -> None:
        if self._frozen is not None:
            self._frozen[2].close()
            self._frozen = None


async def _set_when_cancelled(stop: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stop.set()
