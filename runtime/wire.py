"""What pool and worker say to each other.

Rules:
1. A frame is the payload's length, 4 bytes big endian, then the payload: one record of `Request`
   (to the worker) or `Reply` (from it), encoded by `protocol.codec`.
2. The worker speaks first: `Ready`. Then each `Run` is answered by one `Done` or `Failed`; in
   between the worker may ask for the module by `Need`, gets a `Load` (or a `Module`, which it
   compiles itself), for data by `NeedBlob`, gets a `Blob`, and says `Compiled` when it is about to
   run what it asked for. Jobs may be lined up in the pipe, also before such an answer; they are
   worked off one at a time, in their order.
3. `took_us` is the worker's working time, questions left out: of this machine, never hashed.
4. Outcome and job are checked on arrival like anything else that travels.
"""

from __future__ import annotations

from protocol.codec import U64, Digest, Record, decode, encode
from runtime.artifact import MAX_ARTIFACT_BYTES, Artifact
from runtime.errors import FaultReason
from runtime.job import EvaluationJob
from runtime.outcome import Outcome

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
    outcome: Outcome
    took_us: U64


class Failed(Record, tag="failed"):
    """The fault that ended the job in hand."""

    job_id: U64
    reason: FaultReason
    detail: str
    took_us: U64


Request = Run | Module | Load | Blob
Reply = Ready | Need | NeedBlob | Compiled | Done | Failed


def frame(message: Request | Reply) -> bytes:
    """Return a message as it is written to the pipe. Raises `ValueError` beyond the limit."""
    payload = encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes, the limit is {MAX_FRAME_BYTES}")
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def frame_size(prefix: bytes | bytearray, limit_bytes: int = MAX_FRAME_BYTES) -> int:
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
