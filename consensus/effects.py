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
from consensus.validators import Voters
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate, CheckpointVote

VowKind = Literal["prepare", "commit", "view-change", "new-view", "checkpoint"]
"""The phase of a vow; PREPARE and REJECT share one."""


NoteKind = Literal["proposal", "prepared", "tip", "new-view"]


@dataclass(frozen=True, slots=True)
class PersistVow:
    """Make durable what is about to be signed away (rule 7)."""

    phase: VowKind
    epoch: int
    view: int
    seq: int
    message: Vote | ViewChange | NewView | CheckpointVote


@dataclass(frozen=True, slots=True)
class PersistFloor:
    """The lowest view of an epoch this node may still sign in."""

    epoch: int
    view: int


@dataclass(frozen=True, slots=True)
class PersistEpoch:
    """A new epoch begins; durable before anything is signed in it (rule 12)."""

    certificate: CheckpointCertificate
    """The stable checkpoint at the old epoch's edge; it names the new set."""


@dataclass(frozen=True, slots=True)
class PersistNote:
    """A proof needed again after a restart."""

    kind: NoteKind
    epoch: int
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
class Stable:
    """A checkpoint is stable: keep its certificate; what lies below it may be collected."""

    certificate: CheckpointCertificate


@dataclass(frozen=True, slots=True)
class SendCheckpoint:
    """Send one validator the stable checkpoint at the edge of an earlier epoch."""

    peer: int
    epoch: int


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """Agreement goes on under a new validator set, in view 0."""

    voters: Voters
    me: int | None


@dataclass(frozen=True, slots=True)
class Diverged:
    """Own state differs from a quorum's: this node has stopped voting and must resync (rule 11)."""

    seq: int
    own: bytes
    certified: bytes


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
    | PersistEpoch
    | PersistNote
    | Broadcast
    | Send
    | SendDecided
    | SendBody
    | CheckBatch
    | Decide
    | Stable
    | SendCheckpoint
    | EpochBegan
    | Diverged
    | SetTimer
    | CancelTimer
    | Report
    | Refused
)
Persist = PersistVow | PersistFloor | PersistEpoch | PersistNote
