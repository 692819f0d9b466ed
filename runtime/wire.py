"""What pool and worker say to each other.

Rules:
1. A frame is the payload's length, 4 bytes big endian, then the payload: one record of `Request`
   (to the worker) or `Reply` (from it), encoded by `protocol.codec`.
2. The worker speaks first: `Ready`. Then each `Run` is answered by one `Done` or `Failed`; in
   between the worker may ask for the module by `Need`, gets a `Load` (or a `Module`, which it
   compiles itself), for data by `NeedBlob`, gets a `Blob`, and says `Compiled` when it is about to
   run what it asked for. One job at a time.
3. Outcome and job are checked on arrival like anything else that travels.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U64, Digest, Record, decode, encode
from protocol.records.challenge import MAX_SCORE
from protocol.records.challenge_storage import Writes
from runtime.artifact import MAX_ARTIFACT_BYTES, Artifact
from runtime.errors import FaultReason
from runtime.job import EvaluationJob
from runtime.outcome import Outcome, OutcomeClass

MAX_FRAME_BYTES = MAX_ARTIFACT_BYTES + 4096
MAX_REPLY_BYTES = 32 * 1024 * 1024
"""What a worker may say at once: it sees foreign code, the node trusts it with no more memory."""
LENGTH_BYTES = 4
MAX_DETAIL_CHARS = 2_000


class Run(Record, tag="run"):
    """Evaluate this job."""

    job: EvaluationJob


class Module(Record, tag="module"):
    """The answer to `Need`; no body when the node does not have the module."""

    body: bytes | None


class Blob(Record, tag="blob"):
    """The answer to `NeedBlob`; no body when the node does not have the blob."""

    body: bytes | None


class Load(Record, tag="load"):
    """The answer to `Need` where the node has modules compiled elsewhere: checked machine code."""

    artifact: Artifact


class Ready(Record, tag="ready"):
    """The worker runs, on this engine."""

    engine_id: Digest


class Need(Record, tag="need"):
    """The worker does not have this module ready."""

    module_hash: Digest


class NeedBlob(Record, tag="need_blob"):
    """The worker does not have this data blob of the job's."""

    digest: Digest


class Compiled(Record, tag="compiled"):
    """The module is ready; the evaluation starts now."""


class Done(Record, tag="done"):
    """The outcome of the job in hand."""

    job_id: U64
    outcome_class: OutcomeClass
    output: bytes
    score: Annotated[int, Meta(ge=0, le=MAX_SCORE)]
    valid: bool
    message: str
    fuel_used: U64
    verdict_hash: Digest
    log: tuple[str, ...]
    writes: Writes
    host_calls: tuple[tuple[str, U64], ...]


class Failed(Record, tag="failed"):
    """The fault that ended the job in hand."""

    job_id: U64
    reason: FaultReason
    detail: str


Request = Run | Module | Load | Blob
Reply = Ready | Need | NeedBlob | Compiled | Done | Failed


def frame(message: Request | Reply) -> bytes:
    """Return a message as it is written to the pipe. Raises `ValueError` beyond the limit."""
    payload = encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes, the limit is {MAX_FRAME_BYTES}")
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def frame_size(prefix: bytes, limit_bytes: int = MAX_FRAME_BYTES) -> int:
    """Return the payload's length. Raises `ValueError` beyond the limit."""
    size = int.from_bytes(prefix, "big")
    if size > limit_bytes:
        raise ValueError(f"a frame of {size} bytes, the limit is {limit_bytes}")
    return size


def read_request(payload: bytes) -> Request:
    """Decode what the pool sent. Raises `protocol.errors.DecodeError`."""
    request: Request = decode(Request, payload, limit_bytes=MAX_FRAME_BYTES)
    return request


def read_reply(payload: bytes) -> Reply:
    """Decode what the worker sent. Raises `protocol.errors.DecodeError`."""
    reply: Reply = decode(Reply, payload, limit_bytes=MAX_FRAME_BYTES)
    return reply


def done(job_id: int, outcome: Outcome) -> Done:
    """Return an outcome as a record."""
    return Done(
        job_id=job_id,
        outcome_class=outcome.outcome_class,
        output=outcome.output,
        score=outcome.score,
        valid=outcome.valid,
        message=outcome.message,
        fuel_used=outcome.fuel_used,
        verdict_hash=outcome.verdict_hash,
        log=outcome.log,
        writes=outcome.writes,
        host_calls=outcome.host_calls,
    )


def outcome_of(reply: Done) -> Outcome:
    """Return the outcome in a record."""
    return Outcome(
        outcome_class=reply.outcome_class,
        output=reply.output,
        score=reply.score,
        valid=reply.valid,
        message=reply.message,
        fuel_used=reply.fuel_used,
        verdict_hash=reply.verdict_hash,
        log=reply.log,
        writes=reply.writes,
        host_calls=reply.host_calls,
    )
