"""Statements: what a validator says, signed once for many items.

A validator collects what it has to say (submissions to admit, verdicts, chain observations, keys
of validators to be, what a candidate's test vectors gave) and signs the Merkle root of the items.
Batches order whole statements, and only ordered statements have an effect. `counter` starts at 1
and rises by one: at execution anything else is a no-op.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U16, U64, Digest, Name, Record, Signature, digest_of, encode
from protocol.envelope import VoteDomain, VoteKind, vote_payload
from protocol.errors import ProofError
from protocol.merkle import merkle_root
from protocol.records.canary import CanaryItem
from protocol.records.challenge import MAX_SCORE
from protocol.records.challenge_storage import Writes
from protocol.records.consensus_key import SignedKey
from protocol.records.submission import SignedSubmission

MAX_STATEMENT_ITEMS = 256
MAX_STATEMENT_BYTES = 80 * 1024
"""Of the canonical encoding: three of the longest fit into one batch."""


class VerdictItem(Record, tag="verdict"):
    """One validator's result of one evaluation."""

    submission_id: Digest
    verdict_hash: Digest
    """What agreement is about: engine, module, input, policy, class, output and writes."""
    outcome_class: Name
    score: Annotated[int, Meta(ge=0, le=MAX_SCORE)]
    writes: Writes = ()
    """What the challenge's storage shall hold once this is settled."""


class Observation(Record, tag="observe"):
    """A validator has seen the chain finalise the block that ends an epoch."""

    epoch: U64
    """The epoch that begins; the one before it is over."""
    block: U64
    block_hash: Digest
    snapshot_hash: Digest
    """Digest of the `EpochMetagraph` read at that block."""


StatementItem = SignedSubmission | VerdictItem | Observation | SignedKey | CanaryItem
"""The items of a statement, told apart by their tag."""


class StatementHeader(Record):
    """The part of a statement that is signed."""

    epoch: U64
    signer: U16
    """Index in the epoch's validator set."""
    counter: Annotated[int, Meta(ge=1, le=0x7FFF_FFFF_FFFF_FFFF)]
    clock_ms: U64
    """The signer's clock when it signed, milliseconds since the Unix epoch."""
    items_root: Digest


class Statement(Record, tag="statement"):
    """A signed statement with its items."""

    header: StatementHeader
    items: Annotated[tuple[StatementItem, ...], Meta(min_length=1, max_length=MAX_STATEMENT_ITEMS)]
    signature: Signature

    def check_root(self) -> None:
        """Raise `ProofError` unless the items are the signed ones."""
        if items_root(self.items) != self.header.items_root:
            raise ProofError(
                f"statement {self.header.counter} of validator {self.header.signer}: "
                "its items do not hash to the signed root"
            )


def items_root(items: tuple[StatementItem, ...]) -> bytes:
    """Return the Merkle root over the canonical bytes of `items`."""
    return merkle_root([encode(item) for item in items])


def statement_payload(domain: VoteDomain, header: StatementHeader, signer_key: bytes) -> bytes:
    """Return the bytes the signer's consensus key signs."""
    return vote_payload(
        domain,
        VoteKind.STATEMENT,
        view=0,
        seq=header.counter,
        digest=digest_of(header),
        signer=signer_key,
    )
