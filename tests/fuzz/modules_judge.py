"""One damaged module through everything a validator does with it, twice, and what came of it.

A mutant is judged as a module from the network is: the admission rules over its bytes, the engine's
validator and compiler as in the compiling child, then an evaluation as in a worker. Allowed ends:
a typed refusal, or an outcome class. Everything else is a `FindingError`: another exception, a
local fault, an end that differs between two runs, or rules that disagree with the artifact.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Self

import msgspec

from challenges import examples
from challenges.record import challenge_record
from challenges.vectors import load_vectors
from protocol.codec import sha256
from protocol.records.challenge import EvaluationContext
from runtime.admission import admit
from runtime.artifact import Artifact, build
from runtime.engine import engine_id, new_engine
from runtime.errors import AdmissionError, Fault
from runtime.host_functions import SIGNATURES
from runtime.job import EvaluationJob
from runtime.outcome import Outcome, OutcomeClass
from runtime.sandbox import Sandbox
from tests.fuzz.modules_mutation import mutate
from tests.runtime import modules

DEADLINE_MS = 120_000
"""Never reached: fuel ends a mutant long before, also on a busy machine."""
REFUSED = frozenset(
    {OutcomeClass.INVALID_MODULE, OutcomeClass.MISSING_EXPORT, OutcomeClass.MEMORY_LIMIT}
)
ENGINE_RULE = "engine"
"""The rule of what wasmtime's validator refuses; all others are decided without an engine."""


class FindingError(Exception):
    """A mutant that did not end as a mutant may."""


@dataclass(frozen=True)
class Seed:
    """A valid module, and the job it is evaluated with."""

    name: str
    module: bytes
    job: EvaluationJob


@dataclass
class Tally:
    """What came of some mutants."""

    mutants: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By rule."""
    classes: Counter[str] = field(default_factory=Counter)
    """Outcome classes of the admitted ones."""
    slowest_s: float = 0.0
    """CPU time of both runs of the slowest one."""
    slowest: int = -1
    digest: bytes = bytes(32)
    """Hash chain over all ends in order: two runs of one range must agree."""

    def add(self, number: int, end: End) -> None:
        """Count one mutant."""
        self.mutants += 1
        if end.rule:
            self.refused[end.rule] += 1
        else:
            self.classes[end.outcome.outcome_class] += 1
        if end.cpu_s > self.slowest_s:
            self.slowest_s, self.slowest = end.cpu_s, number
        self.digest = sha256(self.digest, end.rule.encode(), end.outcome.verdict_hash)


@dataclass(frozen=True)
class End:
    """How one mutant ended."""

    rule: str
    """What refused it, empty for one that was admitted."""
    outcome: Outcome
    cpu_s: float


def _small() -> Seed:
    """Return a module of 500 bytes with one of everything: it compiles ten times as fast."""
    body = (
        "(call $log (i32.const 0) (i32.const 9)) (drop (memory.grow (i32.const 3)))"
        "(call $random (i32.const 64) (i32.const 8)) (drop (call $time))"
        "(call $sha256 (local.get $ptr) (local.get $len) (i32.const 64))"
        "(drop (call_indirect (type $i) (i32.const 1) (i32.const 0)))"
        "(block (loop (br_if 1 (i32.eqz (local.get $len)))"
        " (local.set $len (i32.sub (local.get $len) (i32.const 1))) (br 0)))"
        "(memory.fill (i32.const 200) (i32.const 7) (i32.const 99))"
        f"{modules.returning(modules.output())}"
    )
    code = modules.module(
        body,
        imports=modules.LOG
        + modules.SHA256
        + modules.RANDOM
        + modules.TIME_MS.replace("$time_ms", "$time"),
        more="(type $i (func (param i32) (result i32))) (table 3 funcref)"
        " (elem (i32.const 0) $double) (global (mut i32) (i32.const 5))"
        " (func $double (type $i) (i32.mul (local.get 0) (i32.const 2)))"
        " (func $boot (local i64 f64) (drop (f64.div (local.get 1) (local.get 1)))) (start $boot)",
    )
    job = modules.job_for(sha256(code), deadline_ms=DEADLINE_MS)
    return Seed("small", code, job)


def _example(name: str) -> Seed:
    example = examples.load(name)
    record = challenge_record(example.spec, example.module_hash, example.blobs, example.vectors)
    # whatever a mutant imports is allowed, so that it is run and not only refused
    policy = msgspec.structs.replace(record.policy, host_functions=tuple(sorted(SIGNATURES)))
    vectors = load_vectors(example.vectors_path)
    vector = next(found for found in vectors if found.output is not None and found.output.valid)
    context = vector.context.model_dump() | {"seed": vector.context.seed}
    job = EvaluationJob(
        job_id=1,
        module_hash=example.module_hash,
        policy=policy,
        challenge_id=example.spec.id,
        version=example.spec.version,
        params=record.params,
        miner=vector.miner,
        submission=vector.submission,
        context=EvaluationContext(**context),
        deadline_ms=DEADLINE_MS,
    )
    return Seed(name, example.module, job)


@cache
def seeds() -> tuple[Seed, ...]:
    """Return the modules that mutants are made from: the core examples, and a small one."""
    return (_example("series_forecast"), _example("text_compression"), _small())


def mutant(seed: int, number: int) -> tuple[Seed, bytes]:
    """Return the mutant of this number in the run of this seed, and what it was made from."""
    random = Random(f"{seed}/{number}")
    chosen = random.choice(seeds())
    return chosen, mutate(chosen.module, [other.module for other in seeds()], random)


class Judge:
    """Judges mutants in this process; a context manager."""

    def __init__(self) -> None:
        self._compiling = new_engine(compiles_only=True)
        self._sandbox = Sandbox(max_cached_modules=2)
        self._artifact: Artifact

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()

    def judge(self, seed: Seed, module: bytes, *, twice: bool = True) -> End:
        """Return how a module ends. Raises `FindingError`.

        It is evaluated twice, in two instances; `twice` has it compiled twice, too, which is most
        of the work.
        """
        began = time.process_time()
        try:
            first = self._once(seed, module)
            second = self._once(seed, module, compile_again=twice)
        except Fault as fault:
            raise FindingError(f"a fault: {fault}") from fault
        except FindingError:
            raise
        except Exception as error:
            raise FindingError(f"an exception: {error!r}") from error
        if first != second:
            raise FindingError(f"two runs, two ends: {first} and {second}")
        rule, outcome = first
        return End(rule, outcome, time.process_time() - began)

    def _once(
        self, seed: Seed, module: bytes, *, compile_again: bool = True
    ) -> tuple[str, Outcome]:
        try:
            admit(module, seed.job.policy)
            rule = ""
        except AdmissionError as error:
            rule = error.rule
        if compile_again:
            self._artifact = build(self._compiling, engine_id(), module)
            self._sandbox.load_artifact(self._artifact)
        artifact = self._artifact
        _check_artifact(artifact, rule)
        if not rule and artifact.refusal is not None:
            rule = ENGINE_RULE
        job = msgspec.structs.replace(seed.job, module_hash=artifact.module_hash)
        outcome = self._sandbox.evaluate(job)
        if rule and outcome.outcome_class not in REFUSED:
            raise FindingError(f"refused by {rule}, yet it came to {outcome.outcome_class}")
        return rule, outcome


def _check_artifact(artifact: Artifact, rule: str) -> None:
    """Check that the compiler's view of a module is that of the rules."""
    refusal = artifact.refusal
    if refusal is not None and refusal.rule not in {rule, ENGINE_RULE}:
        raise FindingError(f"the rules say {rule!r}, the artifact {refusal.rule!r}")
    if not rule and refusal is None and not artifact.code:
        raise FindingError("admitted, and no code")
