"""A challenge in the real sandbox: its vectors, single payloads, and what they cost.

Rules:

- Module, policy and parameters come from the challenge's folder, the rest of a job from a vector or
  a caller; the job is made by the same functions as a validator's.
- A `Fault` is this machine's trouble and passes through: it is never a failed vector.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from challenges.advice import admission_mistake, outcome_advice, too_long
from challenges.artifacts import component_artifact
from challenges.bench_host import UnmeteredHost
from challenges.errors import MistakeError
from challenges.progress import Say, silent
from challenges.project import Project
from challenges.record import canary_vectors, challenge_record
from challenges.vectors import Context, Output, Vector, VectorFile, load_vector_file
from protocol.codec import sha256
from protocol.records.canary import MAX_CANARY_BYTES
from protocol.records.challenge import EvaluationContext
from runtime.admission import ModuleSummary
from runtime.component_admission import (
    ComponentSummary,
    check_component_policy,
    is_component,
    summarise_component,
)
from runtime.errors import AdmissionError
from runtime.evaluator import Evaluator
from runtime.job import EvaluationJob, guest_input
from runtime.outcome import Outcome, parse_output
from runtime.pool import WorkerPool

DEADLINE_MS = 60_000
MAX_VECTORS = 1024
"""As many as `protocol.records.canary.CanaryVectors` holds."""


@dataclass(frozen=True, slots=True)
class VectorResult:
    """A vector that was run."""

    vector: Vector
    outcome: Outcome
    differences: tuple[str, ...]
    """Empty if the vector matches; otherwise what was found and expected, field by field."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of whole evaluations, from encoded input to output."""

    rounds: int
    median_us: float
    fastest_us: float


def check_admission(project: Project, module: bytes) -> None:
    """Refuse a module that no validator would admit, and data blobs that none would hold.

    A component's rules are looked at, not its beginning: that needs 20 s of compiling, which the
    first evaluation does. Raises `MistakeError`, and `Fault` when this machine cannot tell.
    """
    policy = challenge_record(project.spec, sha256(module), project.blobs(), vectors=b"").policy
    try:
        if is_component(module):
            check_component_policy(summarise_component(module), policy)
            return
        sandbox = Evaluator()
        try:
            sandbox.check(module, policy)
        finally:
            sandbox.close()
    except AdmissionError as error:
        raise admission_mistake(project, error) from None


class Runner:
    """A challenge, admitted and loaded. Close it, or use it as a context manager."""

    def __init__(self, project: Project, say: Say = silent) -> None:
        """Raise `MistakeError` when the module is not the pinned one or is not admissible."""
        self.project = project
        self.module = project.module()
        blobs = project.blobs()
        # No evaluation depends on the vectors, which may still have to be written.
        self.record = challenge_record(project.spec, sha256(self.module), blobs, vectors=b"")
        self._jobs = 0
        self._sandbox = Evaluator()
        try:
            if is_component(self.module):
                self._sandbox.load_artifact(component_artifact(self.module, say))
            self.summary = self._admit()
            self._sandbox.load(self.module)
            for blob in blobs.values():
                self._sandbox.load_blob(blob)
        except BaseException:
            self._sandbox.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the sandbox."""
        self._sandbox.close()

    @property
    def is_component(self) -> bool:
        """Whether the module runs under the component profile, as Python challenges do."""
        return is_component(self.module)

    def _admit(self) -> ModuleSummary | ComponentSummary:
        try:
            return self._sandbox.check(self.module, self.record.policy)
        except AdmissionError as error:
            raise admission_mistake(self.project, error) from None

    def job(self, submission: bytes, miner: bytes, context: Context, where: str) -> EvaluationJob:
        """Return the job a validator would run. Raises `MistakeError` for a submission too long."""
        if len(submission) > self.record.policy.max_input_bytes:
            raise too_long(self.project.spec, where, len(submission))
        self._jobs += 1
        return EvaluationJob(
            job_id=self._jobs,
            module_hash=self.record.module_hash,
            policy=self.record.policy,
            challenge_id=self.record.challenge_id,
            version=self.record.version,
            params=self.record.params,
            miner=miner,
            submission=submission,
            context=EvaluationContext(**context.model_dump() | {"seed": context.seed}),
            deadline_ms=DEADLINE_MS,
        )

    def evaluate(self, job: EvaluationJob) -> Outcome:
        """Return the job's outcome. Raises `Fault`."""
        return self._sandbox.evaluate(job)

    def vectors(self) -> VectorFile:
        """Return the challenge's vectors. Raises `MistakeError` when they are another one's."""
        path = self.project.vectors_path
        found, spec = load_vector_file(path), self.project.spec
        if (found.challenge, found.version) != (spec.id, spec.version):
            raise MistakeError(
                path,
                f"vectors of {found.challenge!r} version {found.version}",
                f"{spec.id!r} version {spec.version}, as in platform.toml",
                "Correct challenge and version, and check that the outputs still hold.",
            )
        if not found.vectors:
            raise MistakeError(path, "no vectors", "at least one", "Write one good and one bad.")
        _check_size(path, found)
        return found

    def run_vectors(self, vectors: tuple[Vector, ...]) -> Iterator[VectorResult]:
        """Run vectors in order."""
        for vector in vectors:
            where = f"{self.project.vectors_path}: {vector.name}"
            job = self.job(vector.submission, vector.miner, vector.context, where)
            outcome = self.evaluate(job)
            yield VectorResult(vector, outcome, tuple(_differences(vector, outcome)))

    def recorded(self, vector: Vector, outcome: Outcome) -> Vector:
        """Return the vector with what the module answered as what is expected."""
        output = Output.model_validate(_output(outcome)) if outcome.output else None
        answered = {"expected": outcome.outcome_class.value, "output": output}
        return vector.model_copy(update=answered)

    def time_in_process(self, job: EvaluationJob, rounds: int) -> Costs:
        """Measure evaluations in this process."""
        return _timed(rounds, lambda: self.evaluate(job))

    def time_unmetered(self, job: EvaluationJob, rounds: int) -> Costs:
        """Measure the module under plain wasmtime, in the same process.

        Raises `MistakeError` when its output is another one there.
        """
        host, data = UnmeteredHost(self.module), guest_input(job)
        if host.evaluate(data, job.context) != self.evaluate(job).output:
            raise MistakeError(
                self.project.module_path,
                "another output without the sandbox's limits",
                "the same bytes",
                "Let the output depend on the input only: not on remaining memory or NaN bits.",
            )
        return _timed(rounds, lambda: host.evaluate(data, job.context))


async def time_worker(pool: WorkerPool, job: EvaluationJob, rounds: int) -> Costs:
    """Measure evaluations in a worker process; `pool` must know the module. Raises `Fault`."""
    await pool.evaluate(job)
    took = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        await pool.evaluate(job)
        took.append(time.perf_counter_ns() - began)
    return _costs(took)


def _timed(rounds: int, evaluate: Callable[[], object]) -> Costs:
    evaluate()
    took = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        evaluate()
        took.append(time.perf_counter_ns() - began)
    return _costs(took)


def _costs(took_ns: list[int]) -> Costs:
    return Costs(len(took_ns), statistics.median(took_ns) / 1000, min(took_ns) / 1000)


def _check_size(path: Path, file: VectorFile) -> None:
    count, size = len(file.vectors), len(canary_vectors(file.vectors))
    if count > MAX_VECTORS or size > MAX_CANARY_BYTES:
        raise MistakeError(
            path,
            f"{count:,} vectors, {size:,} bytes encoded",
            f"at most {MAX_VECTORS:,} and {MAX_CANARY_BYTES:,}, what validators run before a "
            "version is active",
            "Drop some, or shorten their submissions.",
        )


def _output(outcome: Outcome) -> dict[str, object]:
    said = parse_output(outcome.output)
    return {
        "score": said.score,
        "valid": said.valid,
        "message": said.message,
        "metrics": dict(said.metrics),
    }


def _differences(vector: Vector, outcome: Outcome) -> Iterator[str]:
    if outcome.outcome_class.value != vector.expected:
        advice = outcome_advice(outcome)
        why = f" ({outcome.message})" if outcome.message else ""
        yield (
            f"found outcome {outcome.outcome_class.value}{why}; expected {vector.expected}. "
            f"{advice or 'Correct the module, or the vector.'}"
        )
    elif vector.output is not None:
        yield from _other_output(vector.output, outcome)


def _other_output(expected: Output, outcome: Outcome) -> Iterator[str]:
    advice = "Correct the module, or the vector if the module is right."
    wanted = expected.model_dump()
    if not outcome.valid and (expected.valid or expected.message != outcome.message):
        # the refusal's words are the cause of every other difference
        words = f"score {expected.score:,}" if expected.valid else repr(expected.message)
        yield f"found a refusal, {outcome.message!r}; expected {words}. {advice}"
        return
    for name, value in _output(outcome).items():
        if value != wanted[name]:
            yield f"{name}: found {value!r}; expected {wanted[name]!r}. {advice}"
