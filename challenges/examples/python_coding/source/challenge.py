# mypy: ignore-errors
# platform_guest exists only inside a component.
"""Python coding: runs a miner's function on cases, where it can change nothing but its answers.

`questions` and `score` see everything, in an instance where no line of the submission ever runs.
`load` and `answer` run in another one, which is given the submission and one case after the other
and never holds an expected answer, the author's functions or the seed. An answer is a text: the
canonical JSON of what the function returned after `=`, or what went wrong after `!`. The host
writes down each text and what it burnt; `score` compares texts, so no object of the submission
ever meets a comparison.
"""

import bisect
import collections  # noqa: F401 - this one and the next are for submissions: README.md lists them
import functools  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math  # noqa: F401
import operator  # noqa: F401
import random
import re  # noqa: F401
import string  # noqa: F401
from collections.abc import Callable
from dataclasses import dataclass

from platform_guest import MAX_SCORE, Input, Output, Step, Transcript, accept, refuse

HALF = MAX_SCORE // 2
MAX_DRAWN = 32
MAX_TOLD_CHARS = 240
FUNCTION = "solve"

_functions: dict = {}
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Case:
    """One case: its arguments and the expected answer as JSON, and whether miners may see it."""

    arguments: str
    expected: str
    visible: bool


def questions(given: Input) -> tuple[list[str], int]:
    """Return the cases' arguments and the fuel of each call."""
    visible = [_canonical(arguments) for arguments, _ in json.loads(given.text("visible"))]
    draw = _compiled(given, "draw")
    # as an integer: bytes would be hashed first
    generator = random.Random(int.from_bytes(given.seed, "big"))  # noqa: S311 - the network's seed
    numbers = range(min(given.number("drawn"), MAX_DRAWN))
    drawn = [_canonical(draw(generator, number)) for number in numbers]
    return visible + drawn, given.number("fuel_per_call")


def load(submission: bytes) -> str:
    """Run the submission's top level; return what went wrong, or nothing."""
    try:
        names = {"__name__": "submission", "__builtins__": __builtins__}
        exec(compile(submission.decode(), "submission.py", "exec"), names)  # noqa: S102 - the point
        _functions[FUNCTION] = names[FUNCTION]
    except BaseException as error:  # SystemExit is an answer, too
        return _told(error)
    return ""


def answer(question: str) -> str:
    """Run the submission's function on one case."""
    try:
        return "=" + _canonical(_functions[FUNCTION](*json.loads(question)))
    except BaseException as error:
        return "!" + _told(error)


def score(given: Input, told: Transcript) -> Output:
    """Compare the answers with what is expected, and weigh correctness and economy."""
    if told.load.ending != "ok" or told.load.text:
        return refuse(f"loading the submission: {_ended(told.load) or _cut(told.load.text)}")
    cases = _cases(given, told.questions)
    right = [
        step.ending == "ok" and step.text == "=" + case.expected
        for case, step in zip(cases, told.answers, strict=False)  # shorter after a bad ending
    ]
    fuel = told.load.fuel + sum(step.fuel for step in told.answers)
    drawn = [ok for case, ok in zip(cases, right, strict=False) if not case.visible]
    correct = HALF * sum(drawn) // (len(cases) - sum(case.visible for case in cases))
    economy, message = 0, f"all {len(cases)} cases are right"
    if len(right) < len(cases) or not all(right):
        message = _failure(cases, right, told.answers)
    else:
        par = given.number("par_fuel")
        economy = HALF * par // max(fuel, par)
        if fuel > par:  # told only where it counts: one component burns a little more than another
            message += f"; it burnt {fuel:,} fuel, and more than {par:,} costs points"
    metrics = {"drawn_right": sum(drawn), "economy": economy}
    return accept(correct + economy, message, metrics | {"visible_right": sum(right) - sum(drawn)})


def _compiled(given: Input, name: str) -> Callable:
    """Return a function of the author's, from the parameter of its name."""
    names: dict = {"bisect": bisect}
    exec(compile(given.text(name), name, "exec"), names)  # noqa: S102 - the author's own
    return names[name]


def _cases(given: Input, asked: list[str]) -> list[Case]:
    pinned = json.loads(given.text("visible"))
    visible = [
        Case(arguments, _canonical(expected), True)
        for arguments, (_, expected) in zip(asked, pinned, strict=False)
    ]
    reference = _compiled(given, "answer")
    return visible + [
        Case(arguments, _canonical(reference(*json.loads(arguments))), False)
        for arguments in asked[len(pinned) :]
    ]


def _failure(cases: list[Case], right: list[bool], answers: list[Step]) -> str:
    """Return what failed first, in full for a visible case, and how many are right."""
    at = right.index(False)
    case = cases[at]
    found = _ended(answers[at]) or _answered(answers[at].text)
    total = f"{sum(right)} of {len(cases)} cases are right; "
    if not case.visible:
        return f"{total}drawn case {at - sum(c.visible for c in cases) + 1}: {_kind(answers[at])}"
    call = f"{FUNCTION}({_cut(case.arguments[1:-1])})"
    return f"{total}visible case {at + 1}: {call} {found}; expected {_cut(case.expected)}"


def _ended(step: Step) -> str:
    return {
        "ok": "",
        "out_of_fuel": f"burnt all its {step.fuel:,} fuel",
        "trap": "broke the interpreter: out of memory or stack, or it asked for what is not there",
        "too_long": "answered too much",
    }[step.ending]


def _answered(text: str) -> str:
    return f"failed with {_cut(text[1:])}" if text[:1] == "!" else f"answered {_cut(text[1:])}"


def _kind(step: Step) -> str:
    if step.ending != "ok":
        return _ended(step)
    return f"failed with {_cut(step.text[1:])}" if step.text[:1] == "!" else "a wrong answer"


def _cut(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text[: MAX_TOLD_CHARS + 1])
    return shown if len(shown) <= MAX_TOLD_CHARS else shown[:MAX_TOLD_CHARS] + "..."


def _told(error: BaseException) -> str:
    """Return an exception's kind, text and line; its own methods may be hostile."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "submission.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno or 0
    try:
        text = str(error)[:MAX_TOLD_CHARS]
    except BaseException:
        text = "an exception that cannot be shown"
    return f"{type(error).__name__} in line {line}: {text}"
