"""Every process, worker and run comes to the same verdict; the whole run is `determinism`'s."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest

from tests.challenges.components import needs_builder
from tests.runtime import python_submissions
from tests.runtime.determinism import (
    PROCESSES,
    RUNS,
    WORKERS,
    Comparison,
    Told,
    compare,
    core_examples,
    make_jobs,
)

SUBMISSIONS = 200
PYTHON_SUBMISSIONS = 30


@pytest.mark.parametrize("name", core_examples())
def test_processes_workers_and_runs_agree_to_the_byte(name: str) -> None:
    found = compare(name, SUBMISSIONS, seed=7)
    assert found.differences() == []
    assert len(found.told) == PROCESSES * len(WORKERS) * RUNS
    first = found.told[0]
    assert len(first.verdicts) == SUBMISSIONS
    # the submissions are worth comparing: good and bad ones, and evaluations that were cut off
    assert SUBMISSIONS // 5 < first.valid < SUBMISSIONS * 4 // 5
    assert len(set(first.verdicts)) > SUBMISSIONS // 2
    assert {"ok", "out_of_fuel", "output_limit"} <= set(first.classes)


@needs_builder
def test_python_submissions_agree_to_the_byte() -> None:
    found = compare(python_submissions.NAME, PYTHON_SUBMISSIONS, seed=7, processes=2)
    assert found.differences() == []
    assert len(found.told) == 2 * len(WORKERS) * RUNS
    first = found.told[0]
    assert len(set(first.verdicts)) == PYTHON_SUBMISSIONS
    assert 0 < first.valid < PYTHON_SUBMISSIONS


def test_python_submissions_are_of_every_kind() -> None:
    random = Random(1)
    made = [python_submissions.submission(random, 16_384) for _ in range(500)]
    assert len(set(made)) > 400
    kinds: Counter[str] = Counter()
    for body in made:
        try:
            compile(body, "submission.py", "exec")
            kinds["python"] += 1
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            kinds["no python"] += 1
    assert kinds["python"] > 300
    assert kinds["no python"] > 20
    assert any(attack in body for body in made for attack in python_submissions.attacks())
    assert max(map(len, made)) == 16_384


def test_a_seed_gives_the_same_jobs_and_another_seed_others() -> None:
    assert make_jobs("series_forecast", 20, 1) == make_jobs("series_forecast", 20, 1)
    assert make_jobs("series_forecast", 20, 1) != make_jobs("series_forecast", 20, 2)


def test_what_differs_is_named() -> None:
    first = Told(
        process=0,
        workers=1,
        run=0,
        verdicts=(b"a", b"b"),
        classes=("ok", "ok"),
        fuel=(1, 2),
        valid=2,
    )
    same = msgspec.structs.replace(first, process=1)
    other = msgspec.structs.replace(first, workers=2, verdicts=(b"a", b"c"))
    (line,) = Comparison("x", (first, same, other)).differences()
    assert "process 0, 2 worker(s), run 0 differ in 1 submissions, first in number 1" in line
    assert Comparison("x", (first, same)).differences() == []
