"""Challenges as the network knows them: which module, under which policy, for which share.

The policy is closed by default: what it does not name a guest cannot call. Its digest is part of
every verdict, so two validators that evaluate under different policies never agree by accident.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U32, U64, Digest, Name, Record, digest_of
from protocol.records.challenge_storage import MAX_WRITTEN_BYTES, StorageKey

MAX_SCORE = 1_000_000
"""Scores are integers from 0 to this; no float leaves a guest."""


MAX_DATA_BLOBS = 64


class DataBlob(Record):
    """A blob that belongs to a challenge: what the guest calls it, and what it is."""

    key: StorageKey
    digest: Digest


class RuntimePolicy(Record):
    """The limits one evaluation runs under."""

    fuel: U64
    """wasmtime fuel units an evaluation may burn."""
    memory_pages: Annotated[int, Meta(ge=1, le=1024)]
    """Linear memory limit in pages of 64 KiB."""
    max_input_bytes: U32
    """Longest submission body accepted."""
    max_output_bytes: U32
    max_log_lines: U32
    host_functions: Annotated[tuple[Name, ...], Meta(max_length=16)]
    """Functions of namespace `platform` the guest may import, sorted; empty allows none."""
    data: Annotated[tuple[DataBlob, ...], Meta(max_length=MAX_DATA_BLOBS)] = ()
    """What `data_get` finds, in ascending order of key."""
    storage_bytes: Annotated[int, Meta(ge=0, le=MAX_WRITTEN_BYTES)] = 0
    """Keys and values that `storage_put` may write in one evaluation."""

    def digest(self) -> bytes:
        """Return the policy hash that goes into verdicts."""
        return digest_of(self)


class Challenge(Record):
    """One version of one challenge."""

    challenge_id: Name
    version: U32
    module_hash: Digest
    """SHA-256 of the WebAssembly module."""
    policy: RuntimePolicy
    vectors: Digest
    """SHA-256 of the encoded `protocol.records.canary.CanaryVectors`."""
    params: Annotated[bytes, Meta(max_length=16_384)]
    """MessagePack map handed to the guest as `challenge.params`."""
    emission: U32
    """Emission weight: this challenge's share of its mechanism's emission is emission / sum."""
    mechanism: Annotated[int, Meta(ge=0, le=255)] = 0
    """The chain's mechanism it pays through. The chain divides the subnet's emission among them."""


class EvaluationContext(Record):
    """What a guest may know of the world, fixed by the submission's admission, never by a clock."""

    epoch: U64
    height: U64
    time_ms: U64
    seed: Digest
