"""The table of everything that takes bytes from strangers. A new target is one line here.

`record` is for a kind of record, `requests` for a request protocol (also add the service to
`streams._victim`); whatever else there is gets a maker in `decoders`, `handlers` or `streams`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.fuzz import decoders, handlers, streams
from tests.fuzz.decoders import record
from tests.fuzz.streams import library, requests
from tests.fuzz.target import Maker


def _in(module: str, name: str) -> Callable[[], Any]:
    """Find a kind of record when its target is made."""
    return lambda: getattr(import_module(module), name)


TARGETS: dict[str, Maker] = {
    # Records that travel.
    "message": record(_in("consensus.messages", "Message")),
    "statement": record(_in("protocol.records.statement", "Statement")),
    "submission": record(_in("protocol.records.submission", "SubmissionMessage"), 262_144),
    "registry-change": record(_in("protocol.actions", "RegistryChange"), 32_768),
    "registry-reply": record(_in("validator_node.owner.queries", "RegistryReply"), 1_048_576),
    "node-record": record(_in("protocol.records.validators", "SignedNodeRecord"), 8_192),
    "peers-reply": record(_in("protocol.records.validators", "PeerExchangeReply")),
    "receipt-record": record(_in("protocol.records.result", "Receipt"), 262_144),
    "batch": record(_in("protocol.records.batch", "Batch")),
    "certificate": record(_in("protocol.records.batch", "Certificate")),
    "checkpoint": record(_in("protocol.records.checkpoint", "CheckpointCertificate"), 65_536),
    "evidence": record(_in("consensus.messages", "Evidence")),
    "genesis": record(_in("protocol.records.genesis", "Genesis")),
    "blob-request": record(_in("protocol.records.blob", "BlobRequest"), 64),
    "blob-reply": record(_in("protocol.records.blob", "BlobReply"), 262_208),
    "status-reply": record(_in("validator_node.queries", "NodeStatus")),
    "receipt-reply": record(_in("validator_node.queries", "ReceiptReply"), 262_144),
    "sync-offer": record(_in("validator_node.sync.records", "SyncOffer"), 1_048_576),
    "sync-handovers": record(_in("validator_node.sync.records", "HandoverReply")),
    "sync-log": record(_in("validator_node.sync.records", "LogReply")),
    "snapshot-manifest": record(_in("storage.snapshot_format", "SnapshotManifest")),
    "snapshot-chunk": record(_in("storage.snapshot_format", "ChunkBody")),
    "saved-book": record(_in("validator_node.discovery.book", "StoredBook")),
    "saved-record": record(_in("storage.record_store", "StoredRecord")),
    "worker-request": record(_in("runtime.wire", "Request")),
    "worker-reply": record(_in("runtime.wire", "Reply")),
    # What is decoded and judged without a memory.
    "frame": decoders.frame,
    "receipt": decoders.receipt,
    "wasm": decoders.wasm,
    "guest-output": decoders.guest_output,
    "journal": decoders.journal,
    "journal-record": decoders.journal_record,
    "signing-history": decoders.signing_history,
    "genesis-file": decoders.genesis_file,
    "config-file": decoders.config_file,
    "platform-file": decoders.platform_file,
    # What a node keeps between one input and the next.
    "intake": handlers.intake,
    "owner-changes": handlers.owner_changes,
    "introduction": handlers.introduction,
    "engine": handlers.engine,
    "queries": handlers.queries,
    "record-book": handlers.record_book,
    "address-book": handlers.address_book,
    # Streams.
    "stream-links": streams.links,
    "stream-gossip": streams.gossip,
    "stream-status": requests("/validator/1/status", b""),
    "stream-receipt": requests("/validator/1/receipt", bytes(32), bytes(range(32))),
    "stream-registry": requests(
        "/validator/1/registry", kind=_in("validator_node.owner.queries", "RegistryQuery")
    ),
    "stream-blob": requests(
        "/validator/1/blob", bytes(32), kind=_in("protocol.records.blob", "BlobRequest")
    ),
    "stream-sync": requests("/validator/1/sync", b""),
    "stream-handovers": requests(
        "/validator/1/handovers", kind=_in("validator_node.sync.records", "HandoverRequest")
    ),
    "stream-log": requests(
        "/validator/1/log", kind=_in("validator_node.sync.records", "LogRequest")
    ),
    "stream-peers": requests(
        "/validator/1/peers", kind=_in("protocol.records.validators", "PeerExchangeRequest")
    ),
    "stream-kademlia": streams.kademlia,
    "stream-identify-push": library("/ipfs/id/push/1.0.0", b"\x22\x0a\x04/ip4\x00"),
    "stream-ping": library("/ipfs/ping/1.0.0", bytes(32)),
}
