"""Results: how a submission ended, and the receipt that proves it.

A receipt is self-contained: result -> state proof -> state root -> batch body -> batch header ->
commit certificate -> validator set. Its bytes are canonical, and its certificate holds no signature
that could be left out, so no byte of it can be changed without breaking it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.codec import U16, U32, U64, Digest, Name, PublicKey, Record
from protocol.records.batch import BodyCommitment, Certificate
from protocol.records.challenge import MAX_SCORE
from protocol.state_proof import StateProof


class Replicated(Record, tag="replicated"):
    """The result every validator computed for itself, stated alike by a quorum of weight."""

    verdict_hash: Digest
    outcome_class: Name
    score: Annotated[int, Meta(ge=0, le=MAX_SCORE)]


class Disputed(Record, tag="disputed"):
    """No verdict can reach, or reached in time, a quorum; the submission earns nothing."""

    reason: Literal["split", "timeout"]


class Copy(Record, tag="copy"):
    """The same body was admitted earlier for the same challenge; only the first one earns."""

    original: Digest


class Result(Record):
    """The final word on one submission."""

    submission_id: Digest
    hotkey: PublicKey
    uid: U16
    challenge_id: Name
    challenge_version: U32
    epoch: U64
    """The epoch in which it counts."""
    admitted_seq: U64
    settled_seq: U64
    basis: Replicated | Disputed | Copy


class Receipt(Record):
    """Proof of one result for anyone who has the genesis."""

    result: Result
    state_proof: StateProof
    """Path of the result in the replicated state."""
    body: BodyCommitment
    """The certified batch's body; it names the state root."""
    certificate: Certificate


def result_key(submission_id: bytes) -> bytes:
    """Return the state key of a submission's result."""
    return b"result/" + submission_id
