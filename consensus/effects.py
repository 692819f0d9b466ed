"""Effects: what the engine asks its driver to do, in order.

The contract (etcd-io/raft's `Ready`): an effect is performed only after every `Persist` before it
is on stable storage. The driver may gather the effects of several steps and persist them as one
group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from consensus.inputs import Timer
from consensus.messages import Message, NewView, PrePrepare, ViewChange, Vote
from protocol.records.batch import Batch, Certificate

VowKind = Literal["prepare", "commit", "view-change", "new-view"]
"""The phase of a vow; PREPARE and REJECT share one."""


@dataclass(frozen=True, slots=True)
class PersistVow:
    """Make durable what is about to be signed away (rule 7)."""

    phase: VowKind
    view: int
    seq: int
    message: Vote | ViewChange | NewView


@dataclass(frozen=True, slots=True)
class PersistFloor:
    """The lowest view this node may still sign in."""

    view: int


@dataclass(frozen=True, slots=True)
class PersistNote:
    """A proof needed again after a restart."""

    kind: Literal["proposal", "prepared", "tip", "new-view"]
    view: int
    seq: int
    record: PrePrepare | Certificate | NewView


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other validator."""

    message: Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one validator."""

    peer: int
    message: Message


@dataclass(frozen=True, slots=True)
class SendDecided:
    """Send one validator the decided slots `first..last` from the ledger."""

    peer: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SendBody:
    """Send one validator the body of a slot that the engine no longer holds."""

    peer: int
    seq: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class CheckBatch:
    """Judge a fresh proposal; answer with `BatchChecked`."""

    view: int
    seq: int
    digest: bytes
    batch: Batch


@dataclass(frozen=True, slots=True)
class Decide:
    """Execute and store a decided batch. Comes once for each slot, in order."""

    batch: Batch
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class SetTimer:
    """(Re)start a timer."""

    timer: Timer
    delay_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Stop a timer."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Report:
    """Two signed votes that contradict each other: a portable proof (rule 18)."""

    first: Vote
    second: Vote


@dataclass(frozen=True, slots=True)
class Refused:
    """A message changed nothing; `reason` is a short stable word for the counters."""

    peer: int
    reason: str


Effect = (
    PersistVow
    | PersistFloor
    | PersistNote
    | Broadcast
    | Send
    | SendDecided
    | SendBody
    | CheckBatch
    | Decide
    | SetTimer
    | CancelTimer
    | Report
    | Refused
)
Persist = PersistVow | PersistFloor | PersistNote
