"""What is not a verdict: local faults, and modules refused at admission.

Rules:
1. A `Fault` says something about *this* machine (slow, short of memory, a lost process, a bug). The
   validator abstains, counts it by reason and may try again; it never becomes a score or a vote.
2. An `AdmissionError` says something about the module's bytes, the same on every machine. It names
   the rule, the figure found and the limit.
"""

from __future__ import annotations

from enum import StrEnum


class FaultReason(StrEnum):
    """Why an evaluation has no verdict here; also a metrics label."""

    DEADLINE = "deadline"
    """Wall-clock time ran out: the epoch interruption, or a worker that did not answer."""
    HOST_MEMORY = "host_memory"
    """The host could not map the instance's memory."""
    WORKER_LOST = "worker_lost"
    """The worker process died with the job in hand, or could not be started."""
    MODULE_MISSING = "module_missing"
    """No bytes for the job's module hash, or bytes of another hash."""
    COMPILE = "compile"
    """The engine could not compile a module that it calls valid."""
    COMPILE_TIMEOUT = "compile_timeout"
    """The compiling process was killed at its wall-clock deadline."""
    COMPILE_LIMIT = "compile_limit"
    """The compiling process broke its limit of CPU time or memory."""
    COMPILE_CRASH = "compile_crash"
    """The compiling process died of something else, or could not be started."""
    BAD_JOB = "bad_job"
    """The caller broke the contract: body over the policy's limit, params that are no map."""
    OVERLOADED = "overloaded"
    """The pool's queue is full."""
    ENGINE_MISMATCH = "engine_mismatch"
    """A worker runs another engine than the network (or its siblings): wasmtime was exchanged."""
    CLOSED = "closed"
    """The pool was closed before the job was done."""
    INTERNAL = "internal"
    """A bug in the host's code."""


class Fault(Exception):  # noqa: N818 - the design's word: an error accuses someone, this abstains
    """No verdict could be reached here. `reason` is counted, `detail` is for people."""

    def __init__(self, reason: FaultReason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class AdmissionError(Exception):
    """A module that may not be registered, or not run under the policy.

    `rule` is a stable word (a metrics label), `found` and `limit` are figures or descriptions.
    """

    def __init__(self, rule: str, found: int | str, limit: int | str) -> None:
        super().__init__(f"{rule}: found {found}, the limit is {limit}")
        self.rule = rule
        self.found = found
        self.limit = limit
