"""What validators send each other.

Rule 20: each vote is signed by itself; frames are not signed. A vote on a link must be signed by
the peer at its other end; others' votes travel only inside certificates, view changes and new
views. `Status`, `FetchBatch` and `Decided` carry no signature: the first two only ask, and are
answered with things that prove themselves; the last proves itself by its certificate.
"""

from __future__ import annotations

from typing import Annotated, Literal

from protocol.codec import U16, U64, Digest, Meta, Record, Signature, digest_of
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.checkpoint import CheckpointCertificate, CheckpointVote
from protocol.records.validators import MAX_VALIDATORS

MAX_WINDOW = 64
"""Bound of W on the wire."""
Phase = Literal["prepare", "reject", "commit"]


class Vote(Record, tag="vote"):
    """PREPARE (approval), REJECT or COMMIT for one header digest."""

    kind: Phase
    epoch: U64
    view: U64
    seq: U64
    digest: Digest
    signer: U16
    signature: Signature
    reason: Annotated[str, Meta(max_length=200)] = ""
    """Why a REJECT; for people, outside the signature."""


class PrePrepare(Record, tag="pre-prepare"):
    """The primary's proposal: the batch and its own PREPARE."""

    vote: Vote
    header: Header
    batch: Batch


class ViewChange(Record, tag="view-change"):
    """A validator gives up on the views below `view` and says what it knows (rule 9)."""

    epoch: U64
    view: U64
    tip: Certificate | None
    """Commit certificate of the sender's tip; None if it has none in this epoch."""
    prepared: Annotated[tuple[Certificate, ...], Meta(max_length=MAX_WINDOW)]
    """At most one prepared certificate for each slot above the tip, ascending."""
    signer: U16
    signature: Signature

    @property
    def digest(self) -> bytes:
        """What is signed: the digest of the content."""
        return digest_of(
            ViewChangeContent(
                epoch=self.epoch,
                view=self.view,
                tip=self.tip,
                prepared=self.prepared,
                signer=self.signer,
            )
        )


class ViewChangeContent(Record):
    """A view change without its signature."""

    epoch: U64
    view: U64
    tip: Certificate | None
    prepared: tuple[Certificate, ...]
    signer: U16


class NewView(Record, tag="new-view"):
    """The primary of `view` opens it with a quorum of view changes."""

    epoch: U64
    view: U64
    view_changes: Annotated[tuple[ViewChange, ...], Meta(max_length=MAX_VALIDATORS)]
    """Ascending by signer."""
    signer: U16
    signature: Signature

    @property
    def digest(self) -> bytes:
        """What is signed: the digest over the view changes."""
        return digest_of(NewViewContent(view_changes=self.view_changes))


class NewViewContent(Record):
    """A new view without its signature; its epoch, view and signer are in the signed vote bytes."""

    view_changes: tuple[ViewChange, ...]


class Status(Record, tag="status"):
    """Where a validator is; peers answer with what it misses."""

    epoch: U64
    view: U64
    changing: bool
    height: U64
    """Its last executed slot."""


class FetchBatch(Record, tag="fetch-batch"):
    """Asks for the body of a header."""

    seq: U64
    digest: Digest


class BatchBody(Record, tag="batch"):
    """A body, valid for whoever knows its header's digest."""

    header: Header
    batch: Batch


class DecidedSlot(Record, tag="decided"):
    """A decided batch with its commit certificate."""

    batch: Batch
    certificate: Certificate


class Evidence(Record, tag="evidence"):
    """Two votes of one signer that contradict each other: a portable proof (rule 18)."""

    first: Vote
    second: Vote


Message = (
    Vote
    | PrePrepare
    | ViewChange
    | NewView
    | CheckpointVote
    | CheckpointCertificate
    | Status
    | FetchBatch
    | BatchBody
    | DecidedSlot
    | Evidence
)
"""Everything the engine receives and sends, told apart by tag."""
