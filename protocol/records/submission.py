"""Submissions: what a miner signs and publishes.

A submission names its body by hash. A body of up to `MAX_INLINE_BODY_BYTES` travels beside it; of a
larger one only the hash does, and whoever wants the body asks for it (`records.blob`). Bodies are
stored by hash. The submission id is the SHA-256 of the unsigned record, because sr25519 signatures
are randomised: signing twice does not make two submissions.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.codec import (
    U32,
    U64,
    Digest,
    Name,
    PublicKey,
    Record,
    Signature,
    digest_of,
    sha256,
)
from protocol.envelope import RecordKind, record_payload
from protocol.errors import ProofError, SignatureError
from protocol.identity import verify_hotkey

MAX_INLINE_BODY_BYTES = 4096
"""Bodies up to this length travel inside the gossip message, longer ones never do."""
MAX_BODY_BYTES = 16 * 1024 * 1024
"""The longest body, whatever a challenge's policy allows."""
MAX_EXPIRY_EPOCHS = 512
"""Epochs that a submission may be signed for in advance."""
MAX_POSTED_SUBMISSIONS = 32
"""Submissions one gossip message may carry."""


class Submission(Record):
    """The unsigned content of a submission."""

    network_id: Digest
    challenge_id: Name
    challenge_version: U32
    """The exact version this body was made for, or 0 for whichever is active at admission."""
    kind: Literal["plain"]
    """How the body is to be read. Sealed bodies have their own kind."""
    hotkey: PublicKey
    """The miner's sr25519 public key."""
    expiry_epoch: U64
    """The last epoch in which it may be admitted."""
    body_hash: Digest
    body_size: U32

    @property
    def submission_id(self) -> bytes:
        """SHA-256 of this record's canonical bytes."""
        return digest_of(self)


class SignedSubmission(Record, tag="admit"):
    """A submission with its miner's signature; as a statement's item it asks for admission."""

    submission: Submission
    signature: Signature

    @property
    def submission_id(self) -> bytes:
        """The id of the submission that is signed."""
        return self.submission.submission_id

    def verify(self, network_id: bytes) -> None:
        """Raise `SignatureError` unless the miner signed this for this network."""
        submission = self.submission
        if submission.network_id != network_id:
            raise SignatureError(
                f"submission for network {submission.network_id.hex()[:12]}, "
                f"this is {network_id.hex()[:12]}"
            )
        payload = record_payload(RecordKind.SUBMISSION, network_id, submission.submission_id)
        verify_hotkey(submission.hotkey, payload, self.signature)


class PostedSubmission(Record):
    """A signed submission as published, with its body or, if that is too long, without."""

    signed: SignedSubmission
    body: Annotated[bytes, Meta(max_length=MAX_INLINE_BODY_BYTES)]
    """Empty if the signed size is above `MAX_INLINE_BODY_BYTES`: then it has to be fetched."""

    @property
    def travels_by_hash(self) -> bool:
        """Whether the body is rightly absent and has to be fetched."""
        return not self.body and self.signed.submission.body_size > MAX_INLINE_BODY_BYTES

    def check_body(self) -> None:
        """Raise `ProofError` unless the body is the one named, or is too long to be here.

        A body that travels by hash is checked when it has come.
        """
        if self.travels_by_hash:
            return
        submission = self.signed.submission
        if len(self.body) != submission.body_size:
            raise ProofError(f"body has {len(self.body)} bytes, {submission.body_size} were signed")
        if sha256(self.body) != submission.body_hash:
            raise ProofError("body does not hash to the signed body hash")


class SubmissionMessage(Record):
    """A gossip message on a challenge's topic: one or more submissions of one challenge."""

    posted: Annotated[
        tuple[PostedSubmission, ...], Meta(min_length=1, max_length=MAX_POSTED_SUBMISSIONS)
    ]


def submission_topic(network_id: bytes, challenge_id: str) -> str:
    """Return the gossip topic of a challenge's submissions."""
    return f"/validator/1/{network_id.hex()[:16]}/submissions/{challenge_id}"
