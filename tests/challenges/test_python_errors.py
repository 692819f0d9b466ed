"""A Python challenge's own errors: each is a refusal that names the error and its line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from challenges.build import compile_project, write
from challenges.runner import Runner
from challenges.scaffold import new_project
from challenges.vectors import NOWHERE
from runtime.outcome import OutcomeClass
from tests.challenges.components import needs_builder

CHALLENGE = """from platform_guest import Input, accept


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")


def evaluate(given: Input):
    what = given.submission.decode()
    if what == "raise":
        raise ValueError("boom")
    if what == "divide":
        return accept(1 // (len(what) - 6))
    if what == "score":
        return accept(0.5)
    if what == "metric":
        return accept(1, "", {"a": 1.5})
    if what == "message":
        return accept(1, 5)
    if what == "mute":
        raise Mute
    if what == "exit":
        raise SystemExit(3)
    if what == "deep":
        return evaluate(given)
    if what == "fine":
        return accept(7)
"""

FAILURES = {
    "raise": " at line 12: ValueError: boom",
    "divide": " at line 14: ZeroDivisionError: division by zero",
    "score": ": TypeError: score: an integer was expected, not 0.5",
    "metric": ": TypeError: metrics: an integer for a name was expected, not 'a': 1.5",
    "message": ": TypeError: message: a text was expected, not 5",
    "none": ": TypeError: what accept or refuse returns was expected, not None",
    "mute": " at line 22: Mute, whose text cannot be shown",
    "exit": " at line 24: SystemExit: 3",
    "deep": " at line 26: RecursionError: maximum recursion depth exceeded",
}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    project = new_project(tmp_path_factory.mktemp("python"), "failing", "python")
    (project.folder / "source" / "challenge.py").write_text(CHALLENGE)
    project = write(project, compile_project(project))
    with Runner(project) as running:
        yield running


@needs_builder
def test_an_error_is_a_refusal_that_names_it_and_its_line(runner: Runner) -> None:
    for what, words in FAILURES.items():
        outcome = runner.evaluate(runner.job(what.encode(), bytes(32), NOWHERE, what))
        assert outcome.outcome_class is OutcomeClass.OK, (what, outcome)
        assert (outcome.score, outcome.valid) == (0, False)
        assert outcome.message.startswith(f"the challenge failed{words}"), outcome.message
    fine = runner.evaluate(runner.job(b"fine", bytes(32), NOWHERE, "fine"))
    assert (fine.outcome_class, fine.score, fine.valid) == (OutcomeClass.OK, 7, True)
