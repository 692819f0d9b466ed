"""What became of a submission, in the words of what was seen on the chain.

Rules:
1. Inclusion is not application. `ReadBack` and `Revealed` mean that the weights were seen in the
   chain's storage; `Included`, `Committed` and `RevealLost` that only the call was.
2. `Refused` and `Undecided` may be tried again; all others are final, but for `Committed`, which
   waits for its reveal.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.errors import ChainErrorCode
from chain.interface import WeightVector
from chain.preflight import Refused
from chain.submission_state import Stage, SubmissionRecord


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The chain was seen to hold the vector, set in `block`; `already`: nothing was sent."""

    block: int
    already: bool


@dataclass(frozen=True, slots=True)
class Included:
    """A call was included in `block`, but the chain stored `seen` when the patience ended."""

    block: int
    seen: WeightVector


@dataclass(frozen=True, slots=True)
class Committed:
    """Hidden weights were included in `block` and wait for their reveal; `already`: as above."""

    block: int
    already: bool


@dataclass(frozen=True, slots=True)
class Revealed:
    """The chain holds the vector that was committed in `block`: seen after its reveal."""

    block: int


@dataclass(frozen=True, slots=True)
class RevealLost:
    """The commit of `block` is gone, and the chain stores `seen` in place of its weights."""

    block: int
    seen: WeightVector


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer epoch's submission has begun; this one is not sent any more."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Undecided:
    """The node stopped trying; a call may still land. Submitting again is safe."""

    code: ChainErrorCode
    reason: str


Outcome = ReadBack | Included | Committed | Revealed | RevealLost | Refused | Superseded | Undecided


def outcome_of(record: SubmissionRecord, *, already: bool) -> Outcome | None:
    """Return what the record says became of it, None while something is on its way.

    `already` is whether the present run sent nothing.
    """
    if record.stage is Stage.APPLIED:
        return ReadBack(record.block, already)
    if record.stage is Stage.COMMITTED:
        return Committed(record.block, already)
    if record.stage is Stage.REVEALED:
        return Revealed(record.block)
    if record.stage is Stage.UNSEEN:
        return Included(record.block, record.seen)
    if record.stage is Stage.REVEAL_LOST:
        return RevealLost(record.block, record.seen)
    if record.stage is Stage.REFUSED:
        return Refused(ChainErrorCode(record.code), record.reason)
    if record.stage is Stage.SUPERSEDED:
        return Superseded(record.epoch)
    return None
