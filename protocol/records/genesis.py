"""The genesis: what every node of a network must agree on before it speaks.

The network id is the SHA-256 of its canonical bytes and is part of every signature, so two networks
that differ in anything here cannot exchange a single vote.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U16, U32, U64, Digest, Name, PublicKey, Record, digest_of
from protocol.records.challenge import Challenge
from protocol.records.submission import MAX_EXPIRY_EPOCHS
from protocol.records.validators import MAX_VALIDATORS, ValidatorSet

Positive = Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)]

MAX_CHALLENGES = 64
"""Of a network at a time: those active and those that wait to be, each id once."""


class Parameters(Record):
    """Constants of the protocol (the letters are consensus.md's)."""

    window: Positive = 4
    """W: slots that may be in agreement at once."""
    term: Positive = 256
    """Slots a view holds above its base before the next primary takes over."""
    checkpoint_interval: Positive = 128
    """K: slots between two checkpoints."""
    dispute_after: Positive = 512
    """D: slots after which an admitted submission without a quorum is disputed."""
    max_pending_per_hotkey: Positive = 128
    """Submissions of one hotkey, in all challenges, that may be admitted and not ended. At intake's
    50 a second that is room for two and a half seconds from admission to settlement; and it is
    half of what a validator hands to its workers at a time, so that no hotkey fills that alone."""
    keep_epochs: Annotated[int, Meta(ge=MAX_EXPIRY_EPOCHS + 1, le=0xFFFF_FFFF)] | None = 1008
    """Epochs after which results leave the state, None for never. A submission that could still be
    admitted anew must not be forgotten. 1,008 epochs of 72 minutes are 50 days."""
    base_timeout_ms: Positive = 1000
    max_timeout_ms: Positive = 60_000
    view_limit_ms: Positive = 30_000
    """Longest a view lasts while work is pending."""


class ElectionRules(Record):
    """Who of the metagraph becomes a validator of the next epoch (`registry.election`)."""

    min_stake: U64 = 1
    """In rao."""
    min_members: Annotated[int, Meta(ge=1, le=MAX_VALIDATORS)] = 1
    """With fewer the set stays as it is."""
    max_members: Annotated[int, Meta(ge=1, le=MAX_VALIDATORS)] = MAX_VALIDATORS
    stake_cap_permille: Annotated[int, Meta(ge=1, le=1000)] = 1000
    """Largest share of the voting weight that one validator may have; 1000 is no bound. It comes
    before the stake cap that every set has (`consensus.validators`)."""


class Neuron(Record):
    """A hotkey registered on the subnet."""

    uid: U16
    hotkey: PublicKey
    stake: U64
    validator_permit: bool


class ChainParameters(Record):
    """The chain a network starts from."""

    netuid: U16
    start_ms: U64
    """Unix time of block 0."""
    block_time_ms: Positive
    tempo: Positive
    """Blocks in an epoch."""
    weights_rate_limit: U32
    """Blocks a hotkey waits between two weight submissions."""
    min_stake: U64
    start_block: U64 = 0
    """The network's epoch 0 ends with the first epoch of the chain that begins after this block."""


class Genesis(Record):
    """Everything a network starts from."""

    name: Name
    engine_id: Digest
    """The evaluation engine every node must run."""
    owner: PublicKey
    chain: ChainParameters
    neurons: Annotated[tuple[Neuron, ...], Meta(max_length=4096)]
    validators: ValidatorSet
    challenges: Annotated[tuple[Challenge, ...], Meta(max_length=MAX_CHALLENGES)]
    parameters: Parameters
    election: ElectionRules = ElectionRules()

    @property
    def network_id(self) -> bytes:
        """SHA-256 of the canonical genesis."""
        return digest_of(self)
