"""Batches and certificates.

A batch's body is the state root it names and its actions; its header binds the body to its place in
the chain. The header's digest is what validators vote for, and it never contains the view: the same
batch proposed again in a later view has the same digest.

A certificate is the header, one kind of vote, one view, and the signatures of a quorum. It proves
itself to anyone who has the epoch's validator set. `signers` is a bitmap: bit i (least significant
first) of byte i // 8 stands for validator i, and signatures come in index order.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.actions import Action
from protocol.codec import U32, U64, Digest, Record, Signature, digest_of, encode
from protocol.merkle import merkle_root
from protocol.records.validators import MAX_VALIDATORS

MAX_BATCH_ITEMS = 1024
"""Statement items and other actions one batch may hold in total."""
MAX_BATCH_BYTES = 262_144


class Batch(Record):
    """The body of a slot."""

    state_root: Digest
    """The replicated state's root after the batch W slots earlier (genesis before that)."""
    actions: Annotated[tuple[Action, ...], Meta(max_length=MAX_BATCH_ITEMS)]

    def commitment(self) -> BodyCommitment:
        """Return what the header's body root commits to."""
        return BodyCommitment(
            state_root=self.state_root,
            action_count=len(self.actions),
            actions_root=merkle_root([encode(action) for action in self.actions]),
        )

    def body_root(self) -> bytes:
        """Return the digest of the commitment, which the header names."""
        return digest_of(self.commitment())


class BodyCommitment(Record):
    """A body in three fields, so that a receipt can show the state root without the actions.

    The count stands beside the Merkle root because the root alone does not bind it: a path could
    otherwise be valid under two counts.
    """

    state_root: Digest
    action_count: U32
    actions_root: Digest
    """Merkle root over the canonical bytes of the actions."""


class Header(Record):
    """A batch's place in the chain. Its digest identifies the batch."""

    epoch: U64
    seq: Annotated[int, Meta(ge=1, le=0x7FFF_FFFF_FFFF_FFFF)]
    parent: Digest
    body_root: Digest

    @property
    def digest(self) -> bytes:
        """SHA-256 of the header's canonical bytes; the chain hash at this height."""
        return digest_of(self)


class Certificate(Record):
    """A quorum's votes of one kind and view for one header."""

    header: Header
    kind: Literal["prepare", "commit"]
    view: U64
    signers: Annotated[bytes, Meta(min_length=1, max_length=MAX_VALIDATORS // 8)]
    signatures: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=MAX_VALIDATORS)]
