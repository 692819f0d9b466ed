"""Inputs: everything that can happen to the engine.

`Received` carries the index of the validator at the other end of an authenticated link.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from consensus.messages import DecidedSlot, Message
from protocol.records.batch import Batch
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.validators import ValidatorSet


class Timer(StrEnum):
    """The engine's timers; the driver runs at most one of each."""

    PROGRESS = "progress"
    """No decision in time: ask for the next view."""
    RESEND = "resend"
    """Say again what may have been lost."""
    ROTATE = "rotate"
    """The view has lasted long enough."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived from a validator."""

    peer: int
    message: Message


@dataclass(frozen=True, slots=True)
class Learned:
    """Something that proves itself, read from somebody's log rather than heard on a link."""

    message: DecidedSlot | CheckpointCertificate


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by `SetTimer` ran out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class WorkPending:
    """Whether valid actions wait to be ordered."""

    pending: bool


@dataclass(frozen=True, slots=True)
class Propose:
    """The primary's driver has a batch for the slot that `Engine.open_slot` names."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class BatchChecked:
    """The answer to `CheckBatch`."""

    view: int
    seq: int
    digest: bytes
    valid: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link to a validator opened: tell it where we are."""

    peer: int


@dataclass(frozen=True, slots=True)
class Edge:
    """Where an epoch ends, and who votes in the next one (rule 12)."""

    seq: int
    next_set: ValidatorSet


@dataclass(frozen=True, slots=True)
class Executed:
    """The answer to `Decide`: the slot's batch is executed.

    `edge` is the end of the epoch, once the executed state has fixed it. `took_ms` is for how many
    milliseconds the slot was owed: since the one before it, or since there was something to decide;
    0 if that was not measured.
    """

    seq: int
    state_root: bytes
    edge: Edge | None = None
    took_ms: int = 0


Input = Received | Learned | TimerFired | WorkPending | Propose | BatchChecked | LinkUp | Executed
