"""The determinism canary: test vectors that every validator runs before a challenge is activated.

A challenge names the digest of its `CanaryVectors`. Whoever evaluates runs them first, and what it
found is an item of its next statement.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import Digest, Name, PublicKey, Record
from protocol.records.challenge import EvaluationContext

MAX_CANARY_BYTES = 4 * 1024 * 1024
"""The encoded `CanaryVectors`."""
MAX_FAILURE_CHARS = 200


class CanaryVector(Record):
    """One evaluation, and how it must end on every machine."""

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    submission: bytes
    miner: PublicKey
    context: EvaluationContext
    outcome_class: Name
    output: bytes
    """The guest's whole output; empty unless the class is `ok`."""


class CanaryVectors(Record):
    """All test vectors of one version of a challenge."""

    vectors: Annotated[tuple[CanaryVector, ...], Meta(min_length=1, max_length=1024)]


class CanaryItem(Record, tag="canary"):
    """What a validator found when it ran a candidate's vectors; an item of a statement."""

    challenge: Digest
    """Digest of the candidate's `Challenge`."""
    results: Digest
    """SHA-256 over the vectors' verdict hashes, in order; 32 zero bytes if one failed."""
    failure: Annotated[str, Meta(max_length=MAX_FAILURE_CHARS)]
    """The first vector that ended otherwise, and how; empty if all ended as they must."""
