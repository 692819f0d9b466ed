"""Checkpoints: a quorum's word on the executed state at one sequence.

They exist for garbage collection, state transfer and the change of epochs, never for agreement.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U16, U64, Digest, Record, Signature, digest_of
from protocol.records.validators import MAX_VALIDATORS, ValidatorSet


class Checkpoint(Record):
    """What is signed: the chain and the state after slot `seq`."""

    epoch: U64
    """The epoch whose set signs, which is the epoch that `seq` belongs to."""
    seq: U64
    chain_hash: Digest
    state_root: Digest
    next_set: ValidatorSet | None
    """At an epoch's edge, the set of the next epoch; else None."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return digest_of(self)


class CheckpointVote(Record, tag="checkpoint"):
    """One validator's signature over a checkpoint."""

    checkpoint: Checkpoint
    signer: U16
    signature: Signature


class CheckpointCertificate(Record, tag="stable"):
    """A quorum's signatures over one checkpoint: it is *stable*."""

    checkpoint: Checkpoint
    signers: Annotated[bytes, Meta(min_length=1, max_length=MAX_VALIDATORS // 8)]
    signatures: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=MAX_VALIDATORS)]
