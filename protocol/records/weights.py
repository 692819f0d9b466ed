"""The weights of an epoch: what the results come to, in the chain's normal form, and from what.

All of it is in the replicated state, so that anybody can ask why a miner has its weight.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.codec import U16, U32, U64, Digest, Name, PublicKey, Record
from protocol.records.metagraph import MAX_MECHANISMS, MAX_NEURONS

MAX_SHARES = 1024
MAX_MASKED = 256

Mechanism = Annotated[int, Meta(ge=0, le=255)]


class WeightEntry(Record):
    """One miner's weight."""

    uid: U16
    weight: U16


class ChallengeShare(Record):
    """What one challenge paid in an epoch."""

    challenge_id: Name
    mechanism: Mechanism
    emission: U32
    """Its parts; its share is emission / the sum of the mechanism's challenges."""
    score_sum: U64
    """Sum of the scores that counted; each miner has score / score_sum of the share."""
    reason: Literal["", "no_scores", "no_mechanism"]
    """Why the share went to nobody. The chain takes weights relative to each other, so what one
    challenge does not pay raises the part of the others: this is where it is said."""


class Masked(Record):
    """A hotkey with scores that has no weight, because it is not registered any more."""

    hotkey: PublicKey
    uid: U16
    """The uid under which it was evaluated."""
    reason: Literal["deregistered", "uid_reused"]
    """`uid_reused`: another hotkey holds the uid now, and does not inherit the weight."""


class MechanismWeights(Record):
    """One mechanism's vector."""

    mechanism: Mechanism
    vector: Annotated[tuple[WeightEntry, ...], Meta(max_length=MAX_NEURONS)]
    """Ascending by uid; the largest weight is 65535; empty if there is a reason."""
    reason: Literal["", "no_weights", "max_weight"]
    """Why there is no vector: nobody earned anything, or so few did that one of them would have
    more than the chain's largest share."""
    padded: Annotated[tuple[U16, ...], Meta(max_length=MAX_NEURONS)] = ()
    """Uids that have weight 1 only because the chain asks for so many entries."""


class EpochWeights(Record):
    """The vectors every validator submits for a closed epoch."""

    epoch: U64
    block: U64
    """The chain block that ended the epoch."""
    block_hash: Digest
    snapshot_hash: Digest
    """Digest of the metagraph that the uids are of."""
    mechanisms: Annotated[
        tuple[MechanismWeights, ...], Meta(min_length=1, max_length=MAX_MECHANISMS)
    ]
    """One for each mechanism of the subnet, by its number."""
    shares: Annotated[tuple[ChallengeShare, ...], Meta(max_length=MAX_SHARES)]
    """By challenge id."""
    masked: Annotated[tuple[Masked, ...], Meta(max_length=MAX_MASKED)]
    """By hotkey; the first of them if there are more."""
    masked_count: U32
    """How many there are."""

    @property
    def vector(self) -> tuple[WeightEntry, ...]:
        """The vector of mechanism 0, the only one of most subnets."""
        return self.mechanisms[0].vector


def weights_key(epoch: int) -> bytes:
    """Return the state key of an epoch's weights."""
    return b"weights/" + epoch.to_bytes(8, "big")
