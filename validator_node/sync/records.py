"""What state sync asks and answers, over libp2p streams: one request frame, one reply frame.

| protocol | request | reply |
|---|---|---|
| `/validator/1/sync` | empty | `SyncOffer` |
| `/validator/1/handovers` | `HandoverRequest` | `HandoverReply` |
| `/validator/1/log` | `LogRequest` | `LogReply` |

Snapshot chunks and manifests travel on the blob protocol, by their hash.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.messages import DecidedSlot
from protocol.codec import U64, Digest, Record
from protocol.records.batch import Certificate
from protocol.records.checkpoint import CheckpointCertificate

SYNC_PROTOCOL = "/validator/1/sync"
HANDOVER_PROTOCOL = "/validator/1/handovers"
LOG_PROTOCOL = "/validator/1/log"
MAX_HANDOVERS = 32
MAX_LOG_SLOTS = 256
MAX_LOG_BYTES = 1_048_576
"""A reply ends with the slot that reaches this."""
MAX_OFFER_BYTES = 1_048_576
MAX_HANDOVER_BYTES = 4_194_304
MAX_LOG_REPLY_BYTES = 2_097_152
MAX_REQUEST_BYTES = 64
DEADLINE_S = 15.0


class SnapshotOffer(Record):
    """A snapshot that a peer holds."""

    certificate: CheckpointCertificate
    """The stable checkpoint whose state it is."""
    decided: Certificate
    """The commit certificate of the checkpoint's slot, which the log goes on from."""
    manifest: Digest
    size: U64
    """Bytes of all chunks."""


class SyncOffer(Record):
    """What a peer could help with."""

    height: U64
    epoch: U64
    first_held: U64
    """The first slot whose batch it still holds; above `height` if it holds none."""
    snapshots: Annotated[tuple[SnapshotOffer, ...], Meta(max_length=4)]
    """Newest first."""


class HandoverRequest(Record):
    """Asks for the edge checkpoints from an epoch on."""

    first_epoch: U64


class HandoverReply(Record):
    """Edge checkpoints in order, without a gap; fewer than `MAX_HANDOVERS` if there are no more."""

    handovers: Annotated[tuple[CheckpointCertificate, ...], Meta(max_length=MAX_HANDOVERS)]


class LogRequest(Record):
    """Asks for decided slots."""

    first: U64


class LogReply(Record):
    """Decided slots from the first one asked for, without a gap; empty if it is not held."""

    slots: Annotated[tuple[DecidedSlot, ...], Meta(max_length=MAX_LOG_SLOTS)]
