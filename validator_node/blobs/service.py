"""Serving blobs: anybody may ask for any blob this node has, within a budget of bytes.

Rules:
1. A blob is looked for in one source after the other (bodies, modules, pieces of snapshots). What
   a source hands out has the hash it was asked for; the asker checks it again.
2. Every peer has a budget of bytes. Beyond it the reply is `NOT_NOW`, and the asker comes back a
   little later: nothing waits here. Peers that are not trusted share one more budget, so that
   many of them together take no more than that either. Every request costs at least
   `REQUEST_COST_BYTES`, found or not.
3. A blob longer than a piece is read and hashed as a whole, so it is held until its last byte has
   been asked for; `held_bytes` bounds what is held. Reading a blob anew costs the asker a part of
   its size: whoever asks for one byte of many large blobs runs out of budget soon.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import trio

from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.records.blob import MAX_CHUNK_BYTES, NOT_NOW, BlobReply, BlobRequest
from storage.errors import StorageError
from validator_node.network.network import Network
from validator_node.rate import Budget

BLOB_PROTOCOL = "/validator/1/blob"
MAX_REQUEST_BYTES = 64
MAX_BLOB_REPLY_BYTES = MAX_CHUNK_BYTES + 64
DEADLINE_S = 10.0
REQUEST_COST_BYTES = 4096
READING_COST = 0.25
"""Part of a large blob's size that reading it from its source costs the asker."""
_STRANGERS = b"strangers"

log = structlog.get_logger(__name__)

Source = Callable[[bytes], bytes | None]
"""Returns the content with this SHA-256, or None."""


@dataclass(frozen=True, kw_only=True)
class BlobLimits:
    """What serving may cost. Four seconds' worth of each rate can be saved up (`rate.BURST_S`)."""

    peer_bytes_per_s: float = 4 * 1024 * 1024
    """Of one peer: saved up, just one blob of the largest size."""
    strangers_bytes_per_s: float = 16 * 1024 * 1024
    """Of all peers together that are not trusted."""
    held_bytes: int = 32 * 1024 * 1024
    """Of large blobs held between two pieces; the longest unused is let go first."""


class BlobService:
    """Answers `BlobRequest`s."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        limits: BlobLimits = BlobLimits(),
        is_trusted: Callable[[str], bool] = lambda _: False,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """`is_trusted(peer id)` tells the validators of the set from strangers (rule 2)."""
        self._sources = tuple(sources)
        self._limits = limits
        self._is_trusted = is_trusted
        self._peers = Budget(limits.peer_bytes_per_s, now)
        self._strangers = Budget(limits.strangers_bytes_per_s, now)
        self._held: OrderedDict[bytes, bytes] = OrderedDict()
        self.held_bytes = 0
        self.answered: Counter[str] = Counter()
        """Answers by kind: `served`, `unknown`, `not_now`, `malformed`; `damaged` sources."""
        self.served_bytes = 0

    def serve(self, network: Network) -> None:
        """Register the protocol."""
        network.serve(
            BLOB_PROTOCOL,
            self._on_request,
            max_request_bytes=MAX_REQUEST_BYTES,
            deadline_s=DEADLINE_S,
        )

    async def _on_request(self, peer_id: str, data: bytes) -> bytes:
        try:
            request = decode(BlobRequest, data, limit_bytes=MAX_REQUEST_BYTES)
        except ProtocolError:
            self.answered["malformed"] += 1
            return encode(BlobReply(size=0, data=b""))
        return encode(self.reply(peer_id, request))

    def reply(self, peer_id: str, request: BlobRequest) -> BlobReply:
        """Return the piece that a peer asks for, as far as its budget goes."""
        if not self._affords(peer_id, REQUEST_COST_BYTES):
            self.answered["not_now"] += 1
            return BlobReply(size=NOT_NOW, data=b"")
        self._pay(peer_id, REQUEST_COST_BYTES)
        blob = self._find(peer_id, request.digest)
        if not blob:
            self.answered["unknown"] += 1
            return BlobReply(size=0, data=b"")
        end = min(request.offset + min(request.length, MAX_CHUNK_BYTES), len(blob))
        length = max(0, end - request.offset)
        if not self._affords(peer_id, length):
            self.answered["not_now"] += 1
            return BlobReply(size=NOT_NOW, data=b"")
        self._pay(peer_id, length)
        if end == len(blob):
            self._let_go(request.digest)
        self.answered["served"] += 1
        self.served_bytes += length
        return BlobReply(size=len(blob), data=blob[request.offset : end])

    def _affords(self, peer_id: str, cost: float) -> bool:
        if self._peers.level(peer_id.encode()) < cost:
            return False
        return self._is_trusted(peer_id) or self._strangers.level(_STRANGERS) >= cost

    def _pay(self, peer_id: str, cost: float) -> None:
        """Take the cost, or what is left if that is less."""
        peer = peer_id.encode()
        self._peers.spend(peer, min(cost, self._peers.level(peer)))
        if not self._is_trusted(peer_id):
            self._strangers.spend(_STRANGERS, min(cost, self._strangers.level(_STRANGERS)))

    def _find(self, peer_id: str, digest: bytes) -> bytes | None:
        held = self._held.get(digest)
        if held is not None:
            self._held.move_to_end(digest)
            return held
        blob = self._read(digest)
        if blob is not None and len(blob) > MAX_CHUNK_BYTES:
            self._pay(peer_id, READING_COST * len(blob))
            self._hold(digest, blob)
        return blob

    def _read(self, digest: bytes) -> bytes | None:
        for source in self._sources:
            try:
                blob = source(digest)
            except StorageError as error:  # another source or another node may have it whole
                self.answered["damaged"] += 1
                log.warning("blob not served", blob=digest.hex()[:16], reason=str(error))
                continue
            if blob is not None:
                return blob
        return None

    def _hold(self, digest: bytes, blob: bytes) -> None:
        if len(blob) > self._limits.held_bytes:
            return
        self._held[digest] = blob
        self.held_bytes += len(blob)
        while self.held_bytes > self._limits.held_bytes:
            _, oldest = self._held.popitem(last=False)
            self.held_bytes -= len(oldest)

    def _let_go(self, digest: bytes) -> None:
        blob = self._held.pop(digest, None)
        if blob is not None:
            self.held_bytes -= len(blob)
