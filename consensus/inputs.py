"""Inputs: everything that can happen to the engine.

`Received` carries the index of the validator at the other end of an authenticated link.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from consensus.messages import Message
from protocol.records.batch import Batch


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


Input = Received | TimerFired | WorkPending | Propose | BatchChecked | LinkUp
