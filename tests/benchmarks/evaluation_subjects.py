"""What is evaluated in the benchmark: modules, and the job each one is given.

A subject is a challenge in small: where a challenge of another kind joins, it is a function here
that makes its `Subject`. `elsewhere` says whether the module also runs under plain wasmtime and
V8, which a component does not; its artifact comes out of the user's cache, for compiling it takes
20 s of CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from challenges import examples
from challenges.artifacts import component_artifact
from challenges.compile_python import tool_problem
from challenges.record import challenge_record
from challenges.vectors import load_vectors
from protocol.codec import sha256
from protocol.records.challenge import EvaluationContext
from runtime.artifact import Artifact
from runtime.job import EvaluationJob
from tests.runtime.modules import POLICY, compiled, job_for, output, text

DEADLINE_MS = 120_000
SUBMISSION = bytes(number % 251 for number in range(1024))
POLICY_1_KIB = msgspec.structs.replace(POLICY, fuel=2**50, host_functions=())
SCORE_AT = 24
"""Where the score's four bytes lie behind its marker: segment at 16, head, name, marker."""


@dataclass(frozen=True)
class Subject:
    """A module and the job that is measured."""

    name: str
    module: bytes
    job: EvaluationJob
    blobs: tuple[bytes, ...] = ()
    elsewhere: bool = True
    artifact: Artifact | None = None
    """Compiled before, where compiling is not what is measured."""
    target_ms: float | None = None
    """What one evaluation in process is to take at most, where it has a target of its own."""


def checksum(rounds: int) -> Subject:
    """Return a module that hashes its input `rounds` times (FNV-1a) and answers with the hash."""
    answer = output(score=65_536)
    stores = " ".join(
        f"(i32.store8 (i32.const {SCORE_AT + place})"
        f" (i32.shr_u (local.get $h) (i32.const {24 - 8 * place})))"
        for place in range(4)
    )
    code = compiled(
        f"""(module (memory (export "memory") 2) (data (i32.const 16) "{text(answer)}")
        (func (export "alloc") (param i32) (result i32) i32.const 4096)
        (func (export "evaluate") (param $p i32) (param $n i32) (result i64)
          (local $h i32) (local $i i32) (local $r i32)
          (local.set $h (i32.const 0x811c9dc5)) (local.set $r (i32.const {rounds}))
          (loop $round
            (local.set $i (i32.const 0))
            (loop $byte
              (local.set $h (i32.mul (i32.const 0x01000193) (i32.xor (local.get $h)
                (i32.load8_u (i32.add (local.get $p) (local.get $i))))))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $byte (i32.lt_u (local.get $i) (local.get $n))))
            (local.set $r (i32.sub (local.get $r) (i32.const 1)))
            (br_if $round (local.get $r)))
          (local.set $h
            (i32.add (i32.const 65536) (i32.and (local.get $h) (i32.const 0x7ffff))))
          {stores}
          (i64.or (i64.shl (i64.const {len(answer)}) (i64.const 32)) (i64.const 16))))"""
    )
    job = job_for(sha256(code), policy=POLICY_1_KIB, submission=SUBMISSION, deadline_ms=DEADLINE_MS)
    return Subject("1 KiB, one pass", code, job)


def example(name: str) -> Subject:
    """Return a core example with its largest valid vector."""
    found = examples.load(name)
    record = challenge_record(found.spec, found.module_hash, found.blobs, found.vectors)
    vectors = [vector for vector in load_vectors(found.vectors_path) if vector.output is not None]
    valid = [vector for vector in vectors if vector.output is not None and vector.output.valid]
    vector = max(valid, key=lambda one: len(one.submission))
    context = vector.context.model_dump() | {"seed": vector.context.seed}
    job = EvaluationJob(
        job_id=1,
        module_hash=found.module_hash,
        policy=record.policy,
        challenge_id=record.challenge_id,
        version=record.version,
        params=record.params,
        miner=vector.miner,
        submission=vector.submission,
        context=EvaluationContext(**context),
        deadline_ms=DEADLINE_MS,
    )
    title = f"{name}, {len(vector.submission)} B"
    return Subject(title, found.module, job, tuple(found.blobs.values()))


PYTHON = "python_coding"
TRIVIAL = b"def solve(numbers):\n    return 1\n"
PYTHON_TARGET_MS = 10.0


def python(title: str, submission: bytes, target_ms: float | None = None) -> Subject:
    """Return the Python example with a submission; built and compiled at first use."""
    found = examples.load(PYTHON)
    record = challenge_record(found.spec, found.module_hash, found.blobs, found.vectors)
    job = EvaluationJob(
        job_id=1,
        module_hash=found.module_hash,
        policy=record.policy,
        challenge_id=record.challenge_id,
        version=record.version,
        params=record.params,
        miner=bytes(32),
        submission=submission,
        context=EvaluationContext(epoch=1, height=2, time_ms=3, seed=bytes(32)),
        deadline_ms=DEADLINE_MS,
    )
    return Subject(
        f"{PYTHON}, {title}",
        found.module,
        job,
        elsewhere=False,
        artifact=component_artifact(found.module),
        target_ms=target_ms,
    )


def components() -> Iterator[Subject]:
    """Yield the Python example, trivially wrong and solved; nothing where it cannot be built."""
    if tool_problem() is None:
        yield python("trivial", TRIVIAL, PYTHON_TARGET_MS)
        yield python("solved", examples.payload(PYTHON, 3, 0))


def subjects() -> Iterator[Subject]:
    """Yield what is measured in every way."""
    yield checksum(1)
    yield example("series_forecast")
    yield example("text_compression")
