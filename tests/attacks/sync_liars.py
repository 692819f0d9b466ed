"""Peers that lie to whoever syncs: about heights, about the log, about snapshots.

A liar that has no store of its own gets what is true from an honest node (`Relayed`), and answers
with as much of it as its lie needs. `serve` registers it on a network;
`LOG_LIES` and `SNAPSHOT_LIES` list them by what they are about.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

import trio

from protocol.codec import Record, decode, encode, sha256
from protocol.records.blob import BlobReply, BlobRequest
from storage.snapshot_format import SnapshotChunk, SnapshotManifest, cut, manifest_of
from tests.makers import replaced
from validator_node.blobs import BLOB_PROTOCOL
from validator_node.network.network import Network
from validator_node.sync.records import (
    HANDOVER_PROTOCOL,
    LOG_PROTOCOL,
    MAX_HANDOVER_BYTES,
    MAX_LOG_REPLY_BYTES,
    MAX_OFFER_BYTES,
    SYNC_PROTOCOL,
    HandoverReply,
    HandoverRequest,
    LogReply,
    LogRequest,
    SnapshotOffer,
    SyncOffer,
)

MAX_REQUEST_BYTES: Final = 4_096
DEADLINE_S: Final = 600.0
BEYOND: Final = 1 << 60
"""A height that no network reaches."""
DRIP_S: Final = 12.0
ASK_S: Final = 15.0


class Truth(Protocol):
    """Where a liar gets what is true."""

    async def offer(self) -> SyncOffer:
        """Return an honest node's offer."""

    async def handovers(self, first_epoch: int) -> HandoverReply:
        """Return an honest node's hand-overs."""

    async def log(self, first: int) -> LogReply:
        """Return a part of an honest node's log."""


class Relayed:
    """Asks an honest node over the liar's own network."""

    def __init__(self, network: Network, peer_id: str) -> None:
        self._network = network
        self._peer_id = peer_id

    async def _ask(self, protocol: str, request: bytes, limit: int) -> bytes:
        return await self._network.request(
            self._peer_id, protocol, request, deadline_s=ASK_S, max_reply_bytes=limit
        )

    async def offer(self) -> SyncOffer:
        return decode(SyncOffer, await self._ask(SYNC_PROTOCOL, b"", MAX_OFFER_BYTES))

    async def handovers(self, first_epoch: int) -> HandoverReply:
        request = encode(HandoverRequest(first_epoch=first_epoch))
        return decode(
            HandoverReply,
            await self._ask(HANDOVER_PROTOCOL, request, MAX_HANDOVER_BYTES),
            limit_bytes=MAX_HANDOVER_BYTES,
        )

    async def log(self, first: int) -> LogReply:
        request = encode(LogRequest(first=first))
        return decode(
            LogReply,
            await self._ask(LOG_PROTOCOL, request, MAX_LOG_REPLY_BYTES),
            limit_bytes=MAX_LOG_REPLY_BYTES,
        )


class Liar:
    """Tells the truth; each kind of liar changes a part of it."""

    def __init__(self, truth: Truth, name: str = "liar") -> None:
        self._truth = truth
        self._name = name.encode()
        self.asked = 0
        """Requests that came."""

    def serve(self, network: Network) -> None:
        """Register everything that state sync asks."""
        for protocol, handler in (
            (SYNC_PROTOCOL, self._on_sync),
            (HANDOVER_PROTOCOL, self._on_handovers),
            (LOG_PROTOCOL, self._on_log),
            (BLOB_PROTOCOL, self._on_blob),
        ):
            network.serve(
                protocol, handler, max_request_bytes=MAX_REQUEST_BYTES, deadline_s=DEADLINE_S
            )

    async def _on_sync(self, _: str, __: bytes) -> bytes:
        self.asked += 1
        return encode(await self.offer())

    async def _on_handovers(self, _: str, data: bytes) -> bytes:
        self.asked += 1
        return encode(await self.handovers(decode(HandoverRequest, data).first_epoch))

    async def _on_log(self, _: str, data: bytes) -> bytes:
        self.asked += 1
        reply = await self.log(decode(LogRequest, data).first)
        return encode(reply) if isinstance(reply, Record) else reply

    async def _on_blob(self, _: str, data: bytes) -> bytes:
        self.asked += 1
        request = decode(BlobRequest, data)
        blob = await self.blob(request.digest) or b""
        end = request.offset + request.length
        return encode(BlobReply(size=len(blob), data=blob[request.offset : end]))

    async def offer(self) -> SyncOffer:
        """Offer what is true, without its snapshots."""
        return replaced(await self._truth.offer(), snapshots=())

    async def handovers(self, first_epoch: int) -> HandoverReply:
        """Return true hand-overs."""
        return await self._truth.handovers(first_epoch)

    async def log(self, first: int) -> LogReply | bytes:
        """Return a true part of the log."""
        return await self._truth.log(first)

    async def blob(self, digest: bytes) -> bytes | None:
        """Return a blob that it made up."""
        del digest
        return None


class Boaster(Liar):
    """Claims a height beyond all others', from the first slot on, and has nothing."""

    async def offer(self) -> SyncOffer:
        return SyncOffer(height=BEYOND, epoch=BEYOND, first_held=0, snapshots=())

    async def log(self, first: int) -> LogReply | bytes:
        del first
        return LogReply(slots=())


class Dripper(Boaster):
    """Claims a height beyond all others', and brings one true slot in `DRIP_S`."""

    async def log(self, first: int) -> LogReply | bytes:
        await trio.sleep(DRIP_S)
        return LogReply(slots=(await self._truth.log(first)).slots[:1])


class Miser(Liar):
    """Claims what is true, and brings one slot of it at a time, just below what is waited for."""

    async def log(self, first: int) -> LogReply | bytes:
        await trio.sleep(4.5)
        return LogReply(slots=(await self._truth.log(first)).slots[:1])


class Staller(Liar):
    """Brings a few slots, and never answers again."""

    brought = False

    async def log(self, first: int) -> LogReply | bytes:
        if self.brought:
            await trio.sleep_forever()
        self.brought = True
        return LogReply(slots=(await self._truth.log(first)).slots[:8])


class Babbler(Liar):
    """Answers with noise."""

    async def log(self, first: int) -> LogReply | bytes:
        del first
        return os.urandom(1024)


class Forger(Liar):
    """Brings true certificates over batches that were never decided."""

    async def log(self, first: int) -> LogReply | bytes:
        slots = (await self._truth.log(first)).slots
        return LogReply(
            slots=tuple(
                replaced(slot, batch=replaced(slot.batch, state_root=sha256(self._name)))
                for slot in slots
            )
        )


class Mute(Liar):
    """Answers nothing at all."""

    async def offer(self) -> SyncOffer:
        await trio.sleep_forever()
        raise AssertionError


class SnapshotLiar(Liar):
    """Offers a changed snapshot under true certificates, and has no log."""

    async def offer(self) -> SyncOffer:
        true = await self._truth.offer()
        return replaced(
            true,
            first_held=true.height + 1,
            snapshots=tuple(self.changed(snapshot) for snapshot in true.snapshots[:1]),
        )

    async def log(self, first: int) -> LogReply | bytes:
        del first
        return LogReply(slots=())

    def changed(self, true: SnapshotOffer) -> SnapshotOffer:
        """Return what it offers in the place of a true snapshot."""
        return true


class Inventor(SnapshotLiar):
    """Offers a manifest that nobody has, and stalls whoever asks for it."""

    def changed(self, true: SnapshotOffer) -> SnapshotOffer:
        return replaced(true, manifest=sha256(self._name))

    async def blob(self, digest: bytes) -> bytes | None:
        del digest
        await trio.sleep_forever()


class Framer(SnapshotLiar):
    """Offers the honest nodes' manifest with another size, so that they seem to lie."""

    def changed(self, true: SnapshotOffer) -> SnapshotOffer:
        return replaced(true, size=true.size + 1)


class Giant(SnapshotLiar):
    """Offers the honest nodes' manifest with a size that fits on no disk."""

    def changed(self, true: SnapshotOffer) -> SnapshotOffer:
        return replaced(true, size=1 << 35)


class Counterfeiter(SnapshotLiar):
    """Offers a state of its own, whole and consistent, that no quorum certified."""

    def changed(self, true: SnapshotOffer) -> SnapshotOffer:
        chunks = [data for data, _ in cut([(b"balance", self._name)])]
        checkpoint = true.certificate.checkpoint
        manifest = manifest_of(
            checkpoint.seq,
            checkpoint.state_root,
            [(SnapshotChunk(digest=sha256(data), size=len(data)), 1) for data in chunks],
        )
        self._blobs = {sha256(data): data for data in chunks}
        self._blobs[manifest.digest] = encode(manifest)
        return replaced(true, manifest=manifest.digest, size=manifest.size)

    async def blob(self, digest: bytes) -> bytes | None:
        return self._blobs.get(digest)


class Promiser(SnapshotLiar):
    """Offers a long list of chunks, and brings none of them."""

    def changed(self, true: SnapshotOffer) -> SnapshotOffer:
        checkpoint = true.certificate.checkpoint
        listed = [
            (SnapshotChunk(digest=sha256(self._name, bytes([i])), size=600_000), 100)
            for i in range(200)
        ]
        manifest = manifest_of(checkpoint.seq, checkpoint.state_root, listed)
        self._manifest: SnapshotManifest = manifest
        return replaced(true, manifest=manifest.digest, size=manifest.size)

    async def blob(self, digest: bytes) -> bytes | None:
        if digest != self._manifest.digest:
            await trio.sleep_forever()
        return encode(self._manifest)


class Hanger(SnapshotLiar):
    """Offers the true snapshot, and never brings any of it."""

    async def blob(self, digest: bytes) -> bytes | None:
        del digest
        await trio.sleep_forever()


LOG_LIES: Final[tuple[Callable[[Truth, str], Liar], ...]] = (
    Boaster,
    Dripper,
    Miser,
    Staller,
    Babbler,
    Forger,
    Mute,
)
SNAPSHOT_LIES: Final[tuple[Callable[[Truth, str], Liar], ...]] = (
    Inventor,
    Framer,
    Giant,
    Counterfeiter,
    Promiser,
    Hanger,
)
