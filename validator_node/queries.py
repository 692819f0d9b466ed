"""What any node answers to anybody, over libp2p streams: one request frame, one reply frame.

| protocol | request | reply |
|---|---|---|
| `/validator/1/status` | empty | `NodeStatus` |
| `/validator/1/receipt` | submission id, 32 bytes | `ReceiptReply` |

Bodies and other blobs are asked for in pieces (`blobs.service`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.codec import U32, U64, Digest, Record, encode
from registry import keys
from validator_node.intake import Intake
from validator_node.network.network import Network
from validator_node.store import Store

STATUS_PROTOCOL = "/validator/1/status"
RECEIPT_PROTOCOL = "/validator/1/receipt"
MAX_REQUEST_BYTES = 64
DEADLINE_S = 10.0
MAX_RECEIPT_REPLY_BYTES = 262_144


class NodeStatus(Record):
    """What a client needs to take part."""

    network_id: Digest
    epoch: U64
    height: U64
    chain_hash: Digest
    view: U64
    retry_after_s: U32 = 0
    """0 if this node takes submissions in; else after how many seconds it may again."""


class ReceiptReply(Record):
    """What a node knows of one submission."""

    state: Literal["unknown", "refused", "fetching", "waiting", "pending", "uncertified", "ended"]
    """refused: at intake, by this node; fetching: its body is on its way here; waiting: taken in,
    not yet admitted; pending: admitted; uncertified: ended, its state root not yet certified;
    ended: `receipt` holds the receipt."""
    reason: Annotated[str, Meta(max_length=64)]
    """Why it was refused, else empty."""
    receipt: bytes
    """The canonical bytes of a `Receipt`, or empty."""
    retry_after_s: U32 = 0
    """After how many seconds what was refused may be published again; 0: that is of no use."""


class QueryService:
    """Answers from the store; changes nothing."""

    def __init__(self, store: Store, intake: Intake) -> None:
        self._store = store
        self._intake = intake
        self.view = 0

    def serve(self, network: Network) -> None:
        """Register the two protocols."""
        for protocol, handler in (
            (STATUS_PROTOCOL, self._status),
            (RECEIPT_PROTOCOL, self._receipt),
        ):
            network.serve(
                protocol, handler, max_request_bytes=MAX_REQUEST_BYTES, deadline_s=DEADLINE_S
            )

    async def _status(self, _: str, __: bytes) -> bytes:
        store = self._store
        return encode(
            NodeStatus(
                network_id=store.genesis.network_id,
                epoch=store.epoch,
                height=store.height,
                chain_hash=store.chain_hash,
                view=self.view,
                retry_after_s=self._intake.retry_after_s(),
            )
        )

    async def _receipt(self, _: str, submission_id: bytes) -> bytes:
        return encode(self.reply(submission_id))

    def reply(self, submission_id: bytes) -> ReceiptReply:
        """Return what this node knows of a submission."""
        receipt = self._store.receipt(submission_id) if len(submission_id) == 32 else None
        if receipt is not None:
            return ReceiptReply(state="ended", reason="", receipt=encode(receipt))
        if self._store.result(submission_id) is not None:
            return ReceiptReply(state="uncertified", reason="", receipt=b"")
        if self._store.tree.get(keys.PENDING + submission_id) is not None:
            return ReceiptReply(state="pending", reason="", receipt=b"")
        if self._intake.is_waiting(submission_id):
            return ReceiptReply(state="waiting", reason="", receipt=b"")
        if self._intake.is_fetching(submission_id):
            return ReceiptReply(state="fetching", reason="", receipt=b"")
        refused = self._intake.refusals.why(submission_id)
        if refused is not None:
            reason, again_s = refused
            return ReceiptReply(state="refused", reason=reason, receipt=b"", retry_after_s=again_s)
        return ReceiptReply(state="unknown", reason="", receipt=b"")
