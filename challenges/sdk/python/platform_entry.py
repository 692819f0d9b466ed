# mypy: ignore-errors
# These modules exist only inside a component.
"""The component's own end: the exports of `wit/platform.wit`, made from `challenge.py`.

A `print` goes nowhere: there is no stream, and a write to one would trap. An exception of the
challenge's own code becomes a refusal that names it and its line; the submission's code never runs
in an instance that makes an output of a contest (`runtime/contest.py`).

There are no files: opening one, or importing what was not imported at build time, would trap. The
first call of an export puts a plain exception in its place.

What is alive when the component is built is taken from the garbage collector: looking through the
interpreter's own objects would cost each evaluation 8 M fuel and touch all its memory.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable

import challenge
import wit_world
from platform_guest import (
    Input,
    Output,
    read_input,
    read_transcript,
    refuse,
    write_output,
    write_questions,
)


class _Nowhere:
    """Takes what is printed."""

    encoding = "utf-8"
    errors = "replace"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None


sys.stdout = sys.stderr = _Nowhere()


def _guarded(body: Callable[[Input], Output], given: Input) -> str:
    try:
        return write_output(body(given))
    except Exception as error:
        entries = traceback.extract_tb(error.__traceback__)
        own = [entry for entry in entries if entry.filename.endswith("challenge.py")]
        where = f" at line {own[-1].lineno}" if own else ""
        text = f"{type(error).__name__}: {error}"
        return write_output(refuse(f"the challenge failed{where}: {text}"))


_sealed = False


def _seal() -> None:
    global _sealed
    if _sealed:
        return
    _sealed = True
    sys.meta_path[:] = [finder for finder in sys.meta_path if "Path" not in str(finder)]
    sys.path_hooks.clear()
    sys.addaudithook(_refuse_files)


def _refuse_files(event: str, _arguments: tuple) -> None:
    if event == "open":
        raise PermissionError("there are no files")


class WitWorld(wit_world.WitWorld):
    """The exports; those of the world that is not used are never looked up."""

    def evaluate(self, input: str) -> str:  # noqa: A002 - the name of the WIT parameter
        """Score a submission."""
        _seal()
        return _guarded(challenge.evaluate, read_input(input))

    def questions(self, input: str) -> str:  # noqa: A002
        """Say what is asked."""
        _seal()
        return write_questions(*challenge.questions(read_input(input)))

    def load(self, submission: str) -> str:
        """Take the submission in."""
        _seal()
        return challenge.load(submission.encode("latin-1"))

    def answer(self, question: str) -> str:
        """Let the submission answer."""
        _seal()
        return challenge.answer(question)

    def score(self, input: str, transcript: str) -> str:  # noqa: A002
        """Score what was answered."""
        _seal()
        told = read_transcript(transcript)
        return _guarded(lambda given: challenge.score(given, told), read_input(input))


gc.collect()
gc.freeze()
