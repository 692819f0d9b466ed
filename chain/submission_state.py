"""What is known of each submission: a record and the steps it may take. Pure.

Rules:
1. Each (epoch, mechanism) has one record. A step is durable (`SubmissionKeeper.save`) before what
   it announces is done: `sending` is on disk before a call leaves, so a node that was killed knows
   that a call may be on its way.
2. After `sending` only the chain knows. A call has landed when the hotkey's last update is later
   than it was before; it has not when `landing_blocks` have passed without that. Until
   one of both, nothing else is sent for the mechanism: at most one call's fate is unknown.
3. This supposes that nobody else submits weights with the node's hotkey. (A hotkey that was
   registered anew has an update, too: its call then ends as `unseen`, and nothing is sent twice.)
4. A finished record is never sent again, whatever the chain stores later.

| stage | meaning | next |
|---|---|---|
| `waiting` | nothing is on its way | sending, applied, committed, refused, superseded |
| `sending` | a call may be on its way | waiting, included, refused |
| `included` | a block holds the call | applied, committed, revealed, unseen, reveal_lost |
| `committed` | hidden weights wait for their reveal | revealed, reveal_lost |
| `refused` | the last try was refused; asking again is safe | waiting |
| `applied` | the weights were read back | |
| `revealed` | the weights were read back after their reveal | |
| `unseen` | included, but the chain stores something else | |
| `reveal_lost` | the commit is gone, but its weights are not there | |
| `superseded` | a newer epoch came before anything was sent | |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol

from msgspec import Meta
from msgspec.structs import replace

from chain.interface import PendingCommit, WeightVector
from protocol.codec import U16, U32, U64, PublicKey, Record

MAX_TARGETS = 4096
REASON_CHARS = 1000

Vector = Annotated[tuple[tuple[U16, U16], ...], Meta(max_length=MAX_TARGETS)]


class Stage(StrEnum):
    """How far a submission has come; see the module's table."""

    WAITING = "waiting"
    SENDING = "sending"
    INCLUDED = "included"
    COMMITTED = "committed"
    REFUSED = "refused"
    APPLIED = "applied"
    REVEALED = "revealed"
    UNSEEN = "unseen"
    REVEAL_LOST = "reveal_lost"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the submission."""
        return not _NEXT[self]


_NEXT: dict[Stage, frozenset[Stage]] = {
    Stage.WAITING: frozenset(
        {Stage.SENDING, Stage.APPLIED, Stage.COMMITTED, Stage.REFUSED, Stage.SUPERSEDED}
    ),
    Stage.SENDING: frozenset({Stage.WAITING, Stage.INCLUDED, Stage.REFUSED}),
    Stage.INCLUDED: frozenset(
        {Stage.APPLIED, Stage.COMMITTED, Stage.REVEALED, Stage.UNSEEN, Stage.REVEAL_LOST}
    ),
    Stage.COMMITTED: frozenset({Stage.COMMITTED, Stage.REVEALED, Stage.REVEAL_LOST}),
    Stage.REFUSED: frozenset({Stage.WAITING}),
    Stage.APPLIED: frozenset(),
    Stage.REVEALED: frozenset(),
    Stage.UNSEEN: frozenset(),
    Stage.REVEAL_LOST: frozenset(),
    Stage.SUPERSEDED: frozenset(),
}


class SubmissionRecord(Record, frozen=True):
    """One epoch's submission for one mechanism.

    `vector` was certified in `source_epoch`, which is `epoch` unless it stands in for weights that
    were missing. `holders` are the hotkeys its uids belonged to at their evaluation, in the order
    of the vector; () if unknown. `since_block` is the first block after the epoch closed.

    `sent` is what the last call carried, signed when `sent_block` was the head and `update_before`
    the hotkey's last update; `calls` counts the calls of this record. `block` is where the call was
    included, or where the weights were found. `gone_block` is where a commit was first missed, 0
    while it is there. `seen` is what the chain stored when the patience ended; `code` and `reason`
    say why a try failed.
    """

    epoch: U64
    mechanism: U16
    source_epoch: U64
    since_block: U64
    vector: Vector
    holders: Annotated[tuple[PublicKey, ...], Meta(max_length=MAX_TARGETS)] = ()
    stage: Stage = Stage.WAITING
    sent: Vector = ()
    sent_block: U64 = 0
    update_before: U64 = 0
    calls: U32 = 0
    block: U64 = 0
    gone_block: U64 = 0
    seen: Vector = ()
    code: Annotated[str, Meta(max_length=64)] = ""
    reason: Annotated[str, Meta(max_length=REASON_CHARS)] = ""

    @property
    def masked(self) -> tuple[int, ...]:
        """The uids that were left out of what was sent, because they had changed hands."""
        kept = {uid for uid, _ in self.sent}
        return tuple(uid for uid, _ in self.vector if uid not in kept) if self.sent else ()

    def moved(self, stage: Stage, **changes: Any) -> SubmissionRecord:  # noqa: ANN401 - fields
        """Return the record one step further; `ValueError` for a step that there is not."""
        if stage not in _NEXT[self.stage]:
            allowed = ", ".join(sorted(_NEXT[self.stage])) or "nothing, it is final"
            raise ValueError(
                f"epoch {self.epoch}, mechanism {self.mechanism}: {self.stage} to {stage}; "
                f"after {self.stage} comes {allowed}"
            )
        return replace(self, stage=stage, **changes)

    def sending(self, vector: WeightVector, before: Evidence) -> SubmissionRecord:
        """Return the record of a call that is about to be signed, on what was read `before`."""
        return self.moved(
            Stage.SENDING,
            sent=vector,
            sent_block=before.head,
            update_before=before.last_update,
            calls=self.calls + 1,
            code="",
            reason="",
        )

    def renewed(self, begun: SubmissionRecord) -> SubmissionRecord:
        """Return the record, refused or waiting, as it waits for another try.

        What it carries is that of `begun`: a vector may stand in now for one that was missing.
        """
        return replace(
            self if self.stage is Stage.WAITING else self.moved(Stage.WAITING),
            source_epoch=begun.source_epoch,
            vector=begun.vector,
            holders=begun.holders,
        )

    def held_back(self, stage: Stage, code: str, reason: str) -> SubmissionRecord:
        """Return the record after a refusal; `stage` is `WAITING` or `REFUSED`."""
        return self.moved(stage, code=code, reason=reason[:REASON_CHARS])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the chain showed of one hotkey and mechanism.

    Read in the order last update, pending commits, weights: a commit whose update is seen is then
    pending or was revealed, and weights are never older than the update that is said to be theirs.
    """

    head: int
    commit_reveal: bool
    last_update: int
    pending: tuple[PendingCommit, ...]
    stored: WeightVector


@dataclass(frozen=True, slots=True)
class Limits:
    """How many blocks a call may take to land, and weights to be seen after their inclusion."""

    landing_blocks: int
    read_back_blocks: int


class SubmissionKeeper(Protocol):
    """Remembers the records; what `save` returned from survives whatever ends the process."""

    def records(self, mechanism: int) -> tuple[SubmissionRecord, ...]:
        """Return the kept records of a mechanism, by ascending epoch."""
        ...

    def mechanisms(self) -> tuple[int, ...]:
        """Return the mechanisms that have records, ascending."""
        ...

    async def save(self, record: SubmissionRecord) -> None:
        """Make `record` durable in the place of the one with its epoch and mechanism.

        Raises `ChainError` state_unwritable; the old record then remains.
        """
        ...


class MemoryKeeper:
    """A keeper for a submission that need not outlive the process: the chain is its memory."""

    def __init__(self) -> None:
        self._records: dict[tuple[int, int], SubmissionRecord] = {}

    def records(self, mechanism: int) -> tuple[SubmissionRecord, ...]:
        """Return the records of a mechanism, by ascending epoch."""
        return tuple(self._records[key] for key in sorted(self._records) if key[0] == mechanism)

    def mechanisms(self) -> tuple[int, ...]:
        """Return the mechanisms that have records, ascending."""
        return tuple(sorted({mechanism for mechanism, _ in self._records}))

    async def save(self, record: SubmissionRecord) -> None:
        """Remember `record` until the process ends."""
        self._records[record.mechanism, record.epoch] = record


def judged(record: SubmissionRecord, evidence: Evidence, limits: Limits) -> SubmissionRecord:
    """Return the record as the evidence leaves it: a step further, or the same.

    Only what is `sending`, `included` or `committed` depends on the chain. Weights equal to those
    of an earlier epoch cannot be told from them: a commit whose reveal is lost then counts as
    revealed, and the chain holds the right weights either way.
    """
    if record.stage is Stage.SENDING:
        return _landed(record, evidence, limits)
    if record.stage is Stage.INCLUDED:
        return _applied(record, evidence, limits)
    if record.stage is Stage.COMMITTED:
        return _revealed(record, evidence, limits)
    return record


def _landed(record: SubmissionRecord, evidence: Evidence, limits: Limits) -> SubmissionRecord:
    if evidence.last_update > record.update_before:
        return record.moved(Stage.INCLUDED, block=evidence.last_update)
    if evidence.head > record.sent_block + limits.landing_blocks:
        return record.moved(Stage.WAITING)
    return record


def _applied(record: SubmissionRecord, evidence: Evidence, limits: Limits) -> SubmissionRecord:
    commits = [one for one in evidence.pending if record.update_before < one.block <= record.block]
    if commits:
        return record.moved(Stage.COMMITTED, block=commits[0].block)
    if evidence.stored == record.sent and evidence.last_update >= record.block:
        stage = Stage.REVEALED if evidence.commit_reveal else Stage.APPLIED
        return record.moved(stage, block=evidence.last_update)
    if evidence.head < record.block + limits.read_back_blocks:
        return record
    stage = Stage.REVEAL_LOST if evidence.commit_reveal else Stage.UNSEEN
    return _not_there(record, stage, evidence)


def _revealed(record: SubmissionRecord, evidence: Evidence, limits: Limits) -> SubmissionRecord:
    if any(one.block == record.block for one in evidence.pending):
        return record.moved(Stage.COMMITTED, gone_block=0) if record.gone_block else record
    if evidence.stored == record.sent:
        return record.moved(Stage.REVEALED)
    if record.gone_block == 0:
        return record.moved(Stage.COMMITTED, gone_block=evidence.head)
    if evidence.head < record.gone_block + limits.read_back_blocks:
        return record
    return _not_there(record, Stage.REVEAL_LOST, evidence)


def _not_there(record: SubmissionRecord, stage: Stage, evidence: Evidence) -> SubmissionRecord:
    there = f"at block {evidence.head} the chain stores {len(evidence.stored)} others"
    if stage is Stage.REVEAL_LOST:
        reason = (
            f"the commit of block {record.block} is gone, its {len(record.sent)} weights are not "
            f"there: {there}. The chain only logs why; the next epoch's weights are sent as usual"
        )
    else:
        reason = (
            f"a call was included in block {record.block}, its {len(record.sent)} weights are not "
            f"there: {there}. Look for another program that uses this hotkey"
        )
    return record.moved(stage, seen=evidence.stored, reason=reason)
