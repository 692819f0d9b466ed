"""What exactly is signed: every signature names its purpose and its network.

Two layouts, both starting with the same domain, a NUL, the kind in ASCII, and another NUL:

- **records** (hotkey-signed):    network id (32) | digest (32)
- **votes** (consensus keys):     network id (32) | epoch (8) | set hash (32) | view (8) | seq (8)
                                  | digest (32) | signer's public key (32)

Integers are big-endian. A signature made for one kind, network, epoch or set is worthless for any
other: nothing can be replayed across them. A field that a kind does not use is zero.
"""

from __future__ import annotations

from enum import StrEnum

from protocol.codec import Record, sha256

DOMAIN = b"validator/v1"


class RecordKind(StrEnum):
    """What a hotkey signs."""

    SUBMISSION = "submission"
    NODE_RECORD = "node-record"
    REGISTRY_CHANGE = "registry-change"
    CONSENSUS_KEY = "consensus-key"


class VoteKind(StrEnum):
    """What a consensus key signs."""

    PREPARE = "prepare"
    REJECT = "reject"
    COMMIT = "commit"
    VIEW_CHANGE = "view-change"
    NEW_VIEW = "new-view"
    CHECKPOINT = "checkpoint"
    STATEMENT = "statement"


class VoteDomain(Record):
    """The part of a vote's signed bytes that one validator set shares."""

    network_id: bytes
    epoch: int
    set_hash: bytes


def record_payload(kind: RecordKind, network_id: bytes, digest: bytes) -> bytes:
    """Return the bytes a hotkey signs for a record with `digest`."""
    return b"".join((DOMAIN, b"\0", kind.encode("ascii"), b"\0", network_id, digest))


def vote_payload(
    domain: VoteDomain, kind: VoteKind, *, view: int, seq: int, digest: bytes, signer: bytes
) -> bytes:
    """Return the bytes a consensus key signs for a vote."""
    return b"".join(
        (
            DOMAIN,
            b"\0",
            kind.encode("ascii"),
            b"\0",
            domain.network_id,
            domain.epoch.to_bytes(8, "big"),
            domain.set_hash,
            view.to_bytes(8, "big"),
            seq.to_bytes(8, "big"),
            digest,
            signer,
        )
    )


def seed_of(digest: bytes, submission_id: bytes) -> bytes:
    """Return an evaluation's seed: the admitting batch's digest bound to the submission.

    Nobody knows it before the batch is decided, so a miner cannot fit an answer to it.
    """
    return sha256(digest, submission_id)
