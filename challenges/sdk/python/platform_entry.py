# mypy: ignore-errors
# These modules exist only inside a component.
"""The component's own end: the exports of `wit/platform.wit`, made from `challenge.py`.

A `print` goes nowhere: there is no stream, and a write to one would trap. An exception of the
challenge's own code becomes a refusal that names it and its line; the submission's code never runs
in an instance that makes an output of a contest (`runtime/contest.py`). The line comes from the
traceback itself: the module `traceback` looks for source files, and there are none.

There are no files: opening one, or importing what was not imported at build time, would trap. The
first call of an export puts a plain exception in its place.

What is alive when the component is built is taken from the garbage collector: looking through the
interpreter's own objects would cost each evaluation 8 M fuel and touch all its memory.
"""

from __future__ import annotations

import gc
import sys
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
    except (Exception, SystemExit) as error:
        return _refusal(error)


def _refusal(error: BaseException) -> str:
    return write_output(refuse(f"the challenge failed{_line(error)}: {_words(error)}"))


def _line(error: BaseException) -> str:
    """Return where in `challenge.py` it came about, as " at line 11"; empty if not there."""
    found, step = "", error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename.rpartition("/")[2] == "challenge.py":
            found = f" at line {step.tb_lineno}"
        step = step.tb_next
    return found


def _words(error: BaseException) -> str:
    """Return the error's class and text; the text is made by code that may fail itself."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except (Exception, SystemExit):
        return f"{name}, whose text cannot be shown"


_failed = ""
"""What `score` answers when `questions` failed."""
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
        """Say what is asked. An error is kept for `score`, which the same instance answers."""
        global _failed
        _seal()
        try:
            return write_questions(*challenge.questions(read_input(input)))
        except (Exception, SystemExit) as error:
            _failed = _refusal(error)
            return write_questions([""], 1)  # no fuel: nothing of the submission runs

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
        if _failed:
            return _failed
        told = read_transcript(transcript)
        return _guarded(lambda given: challenge.score(given, told), read_input(input))


gc.collect()
gc.freeze()
