"""Serving state sync: any node answers from its store; nothing here is believed by whoever asks."""

from __future__ import annotations

from collections.abc import Callable

from consensus.messages import DecidedSlot
from protocol.codec import decode, encode
from validator_node.network.network import Network
from validator_node.store import Store
from validator_node.sync.records import (
    DEADLINE_S,
    HANDOVER_PROTOCOL,
    LOG_PROTOCOL,
    MAX_HANDOVERS,
    MAX_LOG_BYTES,
    MAX_LOG_SLOTS,
    MAX_REQUEST_BYTES,
    SYNC_PROTOCOL,
    HandoverReply,
    HandoverRequest,
    LogReply,
    LogRequest,
    SnapshotOffer,
    SyncOffer,
)


class SyncServer:
    """Answers the three protocols."""

    def __init__(
        self, store: Store, offers: Callable[[], tuple[SnapshotOffer, ...]] = tuple
    ) -> None:
        """`offers` are the snapshots on this node's disk, newest first."""
        self._store = store
        self._offers = offers

    def serve(self, network: Network) -> None:
        """Register the protocols."""
        for protocol, handler in (
            (SYNC_PROTOCOL, self._on_sync),
            (HANDOVER_PROTOCOL, self._on_handovers),
            (LOG_PROTOCOL, self._on_log),
        ):
            network.serve(
                protocol, handler, max_request_bytes=MAX_REQUEST_BYTES, deadline_s=DEADLINE_S
            )

    async def _on_sync(self, _: str, __: bytes) -> bytes:
        return encode(self.offer())

    async def _on_handovers(self, _: str, data: bytes) -> bytes:
        return encode(self.handovers(decode(HandoverRequest, data).first_epoch))

    async def _on_log(self, _: str, data: bytes) -> bytes:
        return encode(self.log(decode(LogRequest, data).first))

    def offer(self) -> SyncOffer:
        """Return where this node is and what it holds."""
        store = self._store
        return SyncOffer(
            height=store.height,
            epoch=store.epoch,
            first_held=store.first_held,
            snapshots=self._offers()[:4],
        )

    def handovers(self, first_epoch: int) -> HandoverReply:
        """Return the edge checkpoints from `first_epoch` on."""
        found = []
        for epoch in range(first_epoch, first_epoch + MAX_HANDOVERS):
            certificate = self._store.edge_checkpoint(epoch)
            if certificate is None:
                break
            found.append(certificate)
        return HandoverReply(handovers=tuple(found))

    def log(self, first: int) -> LogReply:
        """Return decided slots from `first` on, as many as one reply may hold."""
        slots: list[DecidedSlot] = []
        size = 0
        while len(slots) < MAX_LOG_SLOTS and size < MAX_LOG_BYTES:
            entry = self._store.batch_at(first + len(slots))
            if entry is None:
                break
            slots.append(DecidedSlot(batch=entry[0], certificate=entry[1]))
            size += len(encode(slots[-1]))
        return LogReply(slots=tuple(slots))
