"""A contest: a component that runs a miner's code where it cannot touch its own score.

The component exports four functions, called in two instances:

| function | instance | sees | returns |
|---|---|---|---|
| `questions(input)` | trusted | the whole input | `Questions`: texts, and the fuel for each |
| `load(submission)` | asked | the submission | nothing of interest |
| `answer(question)` | asked, once a question | the question | its answer |
| `score(input, transcript)` | trusted | the whole input and `Transcript` | the output |

Rules:
1. The asked instance gets the submission and one question after the other, nothing else: no
   parameters, no seed, no miner, no expected answer, no question before its turn.
2. What happened is written down by the host: the text of each answer, how it ended, what it burnt.
   The trusted instance waits meanwhile; all it ever sees of the submission's doing are the texts.
3. `load` and each `answer` may burn the fuel that `Questions` states, and all together what is left
   of the policy's. One that ends otherwise than `ok` ends the asking; what follows is missing from
   the transcript. That is no trap of the evaluation: `score` says what it is worth.
4. A trap in `questions` or `score` is the evaluation's; malformed `Questions` are `bad_output`.
5. Strings are the only bulk type that crosses quickly. Input, submission and output are bytes,
   carried as text of one character a byte (Latin-1); `Questions` and `Transcript` are JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime.outcome import OutputError

MAX_QUESTIONS = 64
MAX_QUESTION_CHARS = 65_536
MAX_ANSWER_BYTES = 65_536
"""A longer answer is dropped and the step ends as `too_long`."""

Ending = Literal["ok", "trap", "out_of_fuel", "too_long"]


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the trusted side wants to be asked."""

    fuel: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    """What `load` may burn, and each `answer`."""
    questions: Annotated[
        list[Annotated[str, Meta(max_length=MAX_QUESTION_CHARS)]],
        Meta(min_length=1, max_length=MAX_QUESTIONS),
    ]


class Step(msgspec.Struct, frozen=True):
    """How one call into the submission's instance ended."""

    ending: Ending
    fuel: int
    """What it burnt; all it was given if it trapped."""
    text: str
    """What it returned; empty unless the ending is `ok`."""


class Transcript(msgspec.Struct, frozen=True):
    """What happened in the submission's instance, written by the host."""

    load: Step
    questions: list[str]
    """What `questions` returned."""
    answers: list[Step]
    """One for each question asked; fewer than there are questions after a bad ending."""


_decoder = msgspec.json.Decoder(Questions)
_encoder = msgspec.json.Encoder()


def as_text(data: bytes) -> bytes:
    """Return bytes as the UTF-8 of a text of one character a byte."""
    return data.decode("latin-1").encode()


def as_bytes(text: bytes) -> bytes:
    """Return the bytes that a text carries. Raises `OutputError` for other characters."""
    try:
        return text.decode().encode("latin-1")
    except UnicodeError as error:
        raise OutputError(f"a text with characters that are no bytes: {error}") from error


def read_questions(text: bytes) -> Questions:
    """Return what `questions` asks. Raises `OutputError` when it is malformed."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise OutputError(f"questions: {error}") from error


def write_transcript(transcript: Transcript) -> bytes:
    """Return a transcript as `score` gets it."""
    return _encoder.encode(transcript)
