"""The Python example: what scores, what every attack comes to, and what a miner is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from challenges.examples import payload
from challenges.vectors import load_vectors
from runtime.errors import Fault, FaultReason
from runtime.evaluator import Evaluator
from runtime.outcome import Outcome, OutcomeClass
from tests.challenges.components import (
    ATTACKS,
    artifact,
    example,
    job,
    needs_builder,
    record,
    submission,
)

pytestmark = needs_builder

SOLVED = payload("python_coding", 3, 0)
NAIVE = payload("python_coding", 2, 0)

CLUES = {
    "big_number": "ValueError",
    "clock": "broke the interpreter",
    "counted_cases": "drawn case 1: a wrong answer",
    "deep_stack": "broke the interpreter",
    "endless_load": "loading the submission: burnt all its 250,000,000 fuel",
    "endless_loop": "visible case 1: solve([]) burnt all its 250,000,000 fuel",
    "equal_to_everything": "answered -1",
    "exit": "SystemExit",
    "forged_transcript": "answered",
    "hard_exit": "broke the interpreter",
    "list_folder": "broke the interpreter",
    "memory_bomb": "MemoryError",
    "nasty_exception": "an exception that cannot be shown",
    "nested_object": "",
    "network": "ModuleNotFoundError",
    "no_function": "loading the submission: KeyError",
    "not_python": "loading the submission: SyntaxError in line 1",
    "output_flood": "answered too much",
    "patched_builtins": "",
    "patched_harness": "",
    "print_flood": "answered -1",
    "process": "",
    "randomness": "broke the interpreter",
    "read_file": "PermissionError in line 3: there are no files",
    "recursion": "RecursionError",
    "slow_pattern": "burnt all its 250,000,000 fuel",
    "stolen_answers": "answered -1",
    "thread": "",
}
"""What a miner is told, in part; empty where only the score matters."""


IMPORTABLE = "bisect collections functools heapq itertools json math operator random re string"


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with Evaluator() as made:
        made.load_artifact(artifact())
        yield made


def run(evaluator: Evaluator, body: bytes, seed: bytes = bytes(32)) -> Outcome:
    return evaluator.evaluate(job(body, seed))


def test_the_vectors_hold_for_whatever_component_was_built(evaluator: Evaluator) -> None:
    vectors = load_vectors(example().vectors_path)
    assert len(vectors) >= 10
    for vector in vectors:
        outcome = run(evaluator, vector.submission)
        assert vector.output is not None
        assert outcome.message == vector.output.message, vector.name
        assert (outcome.score, outcome.valid) == (vector.output.score, vector.output.valid)
        assert outcome.metrics == vector.output.metrics


def test_a_right_and_thrifty_solution_earns_everything(evaluator: Evaluator) -> None:
    outcome = run(evaluator, SOLVED)
    assert (outcome.score, outcome.message) == (1_000_000, "all 13 cases are right")
    assert (outcome.metrics["drawn_right"], outcome.metrics["visible_right"]) == (8, 5)


def test_a_right_and_wasteful_solution_earns_less(evaluator: Evaluator) -> None:
    outcome = run(evaluator, NAIVE)
    assert "all 13 cases are right; it burnt " in outcome.message
    assert 500_000 < outcome.score < 900_000
    assert outcome.score == 500_000 + outcome.metrics["economy"]


def test_half_right_earns_by_the_drawn_cases(evaluator: Evaluator) -> None:
    # the drawn cases have 8, 12, 16 ... 36 numbers
    half = (
        SOLVED + b"\nright = solve\ndef solve(n):\n    return -1 if len(n) % 8 == 4 else right(n)\n"
    )
    outcome = run(evaluator, half)
    assert outcome.score == 250_000
    assert outcome.message == "9 of 13 cases are right; drawn case 2: a wrong answer"


def test_the_drawn_cases_depend_on_the_seed(evaluator: Evaluator) -> None:
    asks = b"\nright = solve\ndef solve(n):\n    assert len(n) != 12, n\n    return right(n)\n"
    seeds = [bytes((seed,)) * 32 for seed in (1, 1, 2)]
    messages = [run(evaluator, SOLVED + asks, seed).message for seed in seeds]
    assert "drawn case 2: failed with AssertionError" in messages[0]
    assert messages[0] == messages[1] != messages[2]


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path.stem)
def test_an_attack_scores_nothing_and_is_told_why(evaluator: Evaluator, path: Path) -> None:
    name = path.stem
    outcome = run(evaluator, submission(name))
    assert outcome.outcome_class is OutcomeClass.OK, outcome.message
    assert outcome.score == 0
    assert CLUES[name] in outcome.message
    assert "stolen" not in outcome.message
    assert outcome.fuel_used <= record().policy.fuel
    assert run(evaluator, submission(name)).verdict_hash == outcome.verdict_hash


@pytest.mark.parametrize("planted", [b"seed = b'1234'\n", b"import json\njson.expected = [4]\n"])
def test_the_thief_would_find_what_is_there(evaluator: Evaluator, planted: bytes) -> None:
    thief = submission("stolen_answers").replace(b"str | bytes | dict | int", b"object")
    outcome = run(evaluator, planted + thief)
    assert "failed with LookupError" in outcome.message
    assert "stolen" in outcome.message


def test_every_attack_has_a_clue() -> None:
    assert {path.stem for path in ATTACKS} == set(CLUES)


@pytest.mark.parametrize("name", IMPORTABLE.split())
def test_the_documented_modules_can_be_imported(evaluator: Evaluator, name: str) -> None:
    assert run(evaluator, f"import {name}\n".encode() + SOLVED).score == 1_000_000


def test_an_attack_leaves_nothing_behind(evaluator: Evaluator) -> None:
    before = run(evaluator, SOLVED)
    for name in ("patched_builtins", "patched_harness", "deep_stack", "memory_bomb"):
        run(evaluator, submission(name))
        assert run(evaluator, SOLVED) == before


def test_a_visible_case_is_told_in_full(evaluator: Evaluator) -> None:
    outcome = run(evaluator, b"def solve(numbers):\n    return len(numbers)\n")
    assert outcome.message == (
        "2 of 13 cases are right; visible case 3: solve([3,1,2]) answered 3; expected 2"
    )


def test_a_slow_machine_abstains(evaluator: Evaluator) -> None:
    with pytest.raises(Fault) as caught:
        evaluator.evaluate(job(submission("endless_loop"), deadline_ms=1))
    assert caught.value.reason is FaultReason.DEADLINE
    assert run(evaluator, SOLVED).score == 1_000_000
