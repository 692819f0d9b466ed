"""Small makers of records for the tests, re-exported by `tests.support`."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.codec import digest_of, sha256
from protocol.records.challenge import Challenge, DataBlob, RuntimePolicy
from protocol.records.metagraph import EpochMetagraph
from protocol.records.statement import Observation, VerdictItem

POLICY = RuntimePolicy(
    fuel=1_000_000,
    memory_pages=16,
    max_input_bytes=1000,
    max_output_bytes=1000,
    max_log_lines=10,
    host_functions=("log",),
    data=(DataBlob(key=b"words", digest=sha256(b"words")),),
    storage_bytes=100,
)


def make_challenge(challenge_id: str, *, version: int = 1, emission: int = 1) -> Challenge:
    return Challenge(
        challenge_id=challenge_id,
        version=version,
        module_hash=sha256(challenge_id.encode(), bytes([version])),
        policy=POLICY,
        vectors=sha256(b"vectors", challenge_id.encode()),
        params=b"\x80",
        emission=emission,
    )


def make_verdict(
    submission_id: bytes, score: int = 1, text: bytes = b"v", outcome_class: str = "scored"
) -> VerdictItem:
    return VerdictItem(
        submission_id=submission_id,
        verdict_hash=sha256(text),
        outcome_class=outcome_class,
        score=score,
    )


def make_observation(epoch: int, block: int = 20) -> Observation:
    return Observation(
        epoch=epoch,
        block=block,
        block_hash=sha256(b"block", bytes([block])),
        snapshot_hash=sha256(b"snapshot"),
    )


def observation_of(metagraph: EpochMetagraph) -> Observation:
    """Return what a validator states that has read this metagraph."""
    return Observation(
        epoch=metagraph.epoch,
        block=metagraph.block,
        block_hash=metagraph.block_hash,
        snapshot_hash=digest_of(metagraph),
    )


def replaced(record: Any, /, **changes: Any) -> Any:
    """Return a copy of a record with some fields changed."""
    return msgspec.structs.replace(record, **changes)
