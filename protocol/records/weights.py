"""The weights of an epoch: what the results come to, in the chain's normal form."""

from __future__ import annotations

from protocol.codec import U16, U64, Digest, Record


class WeightEntry(Record):
    """One miner's weight."""

    uid: U16
    weight: U16


class EpochWeights(Record):
    """The vector every validator submits for a closed epoch."""

    epoch: U64
    block: U64
    """The chain block that ended the epoch."""
    block_hash: Digest
    vector: tuple[WeightEntry, ...]
    """Ascending by uid; the largest weight is 65535; empty if nothing earned anything."""


def weights_key(epoch: int) -> bytes:
    """Return the state key of an epoch's weights."""
    return b"weights/" + epoch.to_bytes(8, "big")
