"""One evaluation as it is asked for, and the input map the guest gets.

Rules:
1. A job is complete: with the module's bytes it determines the verdict. `job_id` and `deadline_ms`
   alone are local and touch neither input nor verdict.
2. The guest's input is a MessagePack map in exactly this order of keys:
   `{submission, miner, challenge: {id, version, params}, context: {epoch, height, time_ms, seed}}`.
   The input hash is the SHA-256 of its bytes.
"""

from __future__ import annotations

import functools
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.codec import U32, U64, Digest, Name, PublicKey, Record
from protocol.records.challenge import EvaluationContext, RuntimePolicy
from protocol.records.challenge_storage import MAX_STORED_ENTRIES, StorageEntry
from runtime.errors import Fault, FaultReason


class EvaluationJob(Record):
    """What a worker needs besides the module's bytes."""

    job_id: U64
    module_hash: Digest
    policy: RuntimePolicy
    challenge_id: Name
    version: U32
    params: Annotated[bytes, Meta(max_length=16_384)]
    """A MessagePack map; the guest's `challenge.params`."""
    miner: PublicKey
    submission: bytes
    """At most `policy.max_input_bytes`."""
    context: EvaluationContext
    deadline_ms: Annotated[int, Meta(ge=1, le=3_600_000)]
    """Wall-clock time the guest may run before this validator abstains."""
    storage: Annotated[tuple[StorageEntry, ...], Meta(max_length=MAX_STORED_ENTRIES)] = ()
    """The challenge's storage as it stood when the submission was admitted."""


class _ChallengeInput(msgspec.Struct, frozen=True):
    id: str
    version: int
    params: msgspec.Raw


class _ContextInput(msgspec.Struct, frozen=True):
    epoch: int
    height: int
    time_ms: int
    seed: bytes


class _GuestInput(msgspec.Struct, frozen=True):
    submission: bytes
    miner: bytes
    challenge: _ChallengeInput
    context: _ContextInput


_encoder = msgspec.msgpack.Encoder()


def guest_input(job: EvaluationJob) -> bytes:
    """Return the input map of rule 2. Raises `Fault` (bad_job) for a job that breaks its bounds."""
    if len(job.submission) > job.policy.max_input_bytes:
        raise Fault(
            FaultReason.BAD_JOB,
            f"submission of {len(job.submission)} bytes, the limit is {job.policy.max_input_bytes}",
        )
    _check_params(job.params)
    context = job.context
    return _encoder.encode(
        _GuestInput(
            submission=job.submission,
            miner=job.miner,
            challenge=_ChallengeInput(job.challenge_id, job.version, msgspec.Raw(job.params)),
            context=_ContextInput(context.epoch, context.height, context.time_ms, context.seed),
        )
    )


@functools.lru_cache(maxsize=256)
def _check_params(params: bytes) -> None:
    try:
        msgspec.msgpack.decode(params, type=dict)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise Fault(FaultReason.BAD_JOB, f"params are not a MessagePack map: {error}") from error
