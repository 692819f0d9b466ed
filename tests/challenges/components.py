"""The Python example's component, built at most once a session and kept in the user's cache."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from challenges import examples
from challenges.artifacts import component_artifact
from challenges.compile_python import tool_problem
from challenges.examples import Example
from challenges.record import challenge_record
from protocol.records.challenge import Challenge, EvaluationContext
from runtime.artifact import Artifact
from runtime.job import EvaluationJob

NAME = "python_coding"
ATTACKS = sorted((examples.FOLDER / NAME / "attacks").glob("*.txt"), key=lambda path: path.stem)

needs_builder = pytest.mark.skipif(tool_problem() is not None, reason=str(tool_problem()))


@functools.cache
def example() -> Example:
    return examples.load(NAME)


@functools.cache
def artifact() -> Artifact:
    return component_artifact(example().module)


@functools.cache
def record() -> Challenge:
    return challenge_record(example().spec, example().module_hash, {}, vectors=b"")


def submission(name: str) -> bytes:
    return Path(examples.FOLDER / NAME / "attacks" / f"{name}.txt").read_bytes()


def job(body: bytes, seed: bytes = bytes(32), deadline_ms: int = 120_000) -> EvaluationJob:
    challenge = record()
    return EvaluationJob(
        job_id=1,
        module_hash=challenge.module_hash,
        policy=challenge.policy,
        challenge_id=challenge.challenge_id,
        version=challenge.version,
        params=challenge.params,
        miner=b"\x11" * 32,
        submission=body,
        context=EvaluationContext(epoch=1, height=2, time_ms=3, seed=seed),
        deadline_ms=deadline_ms,
    )
