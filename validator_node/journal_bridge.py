"""Between the engine's `Persist` effects and the journal's records.

A vow passes the signing guard before it is appended: the guard is a second, independent line
against signing twice, and it stops the process rather than let the engine be wrong.

A node whose journal is gone does not know what its key has signed. It observes until the set names
a new key of it (consensus.md 8); nothing but its operator can say that a key has never signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from consensus.effects import (
    NoteKind,
    Persist,
    PersistEpoch,
    PersistFloor,
    PersistNote,
    PersistVow,
    VowKind,
)
from consensus.messages import Message, NewView, PrePrepare
from consensus.validators import Voters
from protocol.codec import decode, encode
from protocol.records.batch import Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.statement import Statement
from storage.errors import JournalDamagedError, JournalMissingError, JournalNotCreatedError
from storage.journal import Journal
from storage.vow import FloorRaised, Note, Vow, VowKey, VowTable, decode_record, encode_record

STATEMENT = "statement"
EPOCH = "epoch"
MAX_SEGMENTS = 16
KEPT_SEGMENTS = 4
"""Segments that survive a compaction: they hold the bodies of slots still in agreement."""
_NOTE_TYPES: dict[NoteKind, type[PrePrepare | Certificate | NewView]] = {
    "proposal": PrePrepare,
    "prepared": Certificate,
    "tip": Certificate,
    "new-view": NewView,
}


def _epoch_of(record: PrePrepare | Certificate | NewView) -> int:
    return record.epoch if isinstance(record, NewView) else record.header.epoch


@dataclass
class Remembered:
    """What the journal held at start."""

    persisted: list[Persist] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)


class SigningJournal:
    """The journal of one consensus key, with its signing guard."""

    def __init__(self, folder: Path, marker: Path, signer: bytes, *, create: bool = False) -> None:
        """Open the journal; with `create`, make one if there has never been any.

        Only for a key that has never signed may it be created. Raises the `JournalError`s that
        forbid signing: never created, missing, damaged, locked.
        """
        self._signer = signer
        self._guard = VowTable(signer)
        self._former: dict[bytes, VowTable] = {}
        self.remembered = Remembered()
        try:
            self._journal, recovered = Journal.open(folder, marker)
        except JournalNotCreatedError:
            if not create:
                raise
            self._journal = Journal.create(folder, marker)
            return
        try:
            for payload in recovered.payloads:
                self._replay(payload)
        except BaseException:
            self._journal.close()
            raise

    def _replay(self, payload: bytes) -> None:
        record = decode_record(payload)
        into = self.remembered
        if isinstance(record, Vow):
            if record.signer != self._signer:
                self._former_guard(record.signer).replay(record)
                return
            self._guard.replay(record)
            message = decode(Message, record.payload)
            phase = cast("VowKind", record.phase)
            view, seq = record.view or 0, record.seq or 0
            into.persisted.append(PersistVow(phase, record.epoch, view, seq, message))
        elif isinstance(record, FloorRaised):
            if record.signer != self._signer:
                self._former_guard(record.signer).replay(record)
            else:
                self._guard.replay(record)
                into.persisted.append(PersistFloor(record.epoch, record.view))
        elif record.kind == STATEMENT:
            into.statements.append(decode(Statement, record.body))
        elif record.kind == EPOCH:
            into.persisted.append(PersistEpoch(decode(CheckpointCertificate, record.body)))
        else:
            kind = cast("NoteKind", record.kind)
            body = decode(_NOTE_TYPES[kind], record.body)
            into.persisted.append(PersistNote(kind, _epoch_of(body), record.view, record.seq, body))

    def _former_guard(self, signer: bytes) -> VowTable:
        """Return the table of a key this node used before: it may come back to it."""
        return self._former.setdefault(signer, VowTable(signer))

    def append(self, effect: Persist) -> None:
        """Append one effect; durable after `sync`. Raises `VowError` for a forbidden signature."""
        record: Vow | FloorRaised | Note | None
        match effect:
            case PersistVow(phase, epoch, view, seq, message):
                key = VowKey(
                    phase,
                    epoch,
                    None if phase == "checkpoint" else view,
                    seq if phase in ("prepare", "commit", "checkpoint") else None,
                )
                record = self._guard.promise(key, encode(message))
            case PersistFloor(epoch, view):
                record = self._guard.raise_floor(view=(epoch, view))
            case PersistEpoch(certificate):
                seq = certificate.checkpoint.seq
                record = Note(kind=EPOCH, body=encode(certificate), seq=seq, view=0)
            case PersistNote(kind, _, view, seq, body):
                record = Note(kind=kind, body=encode(body), seq=seq, view=view)
        if record is not None:
            self._journal.append(encode_record(record))

    def forget_below(self, seq: int) -> None:
        """Refuse votes at or below `seq` from now on, and free the memory of their vows."""
        record = self._guard.raise_floor(seq=seq)
        if record is not None:
            self._journal.append(encode_record(record))

    def append_statement(self, statement: Statement) -> None:
        """Append an own statement, so that its counter is never used for another one."""
        note = Note(kind=STATEMENT, body=encode(statement), seq=statement.header.counter, view=0)
        self._journal.append(encode_record(note))

    @property
    def signs_from(self) -> int:
        """The first epoch in which this key may still sign."""
        return self._guard.view_floor[0]

    @property
    def is_dirty(self) -> bool:
        """Whether something was appended since the last `sync`."""
        return self._journal.pending_bytes > 0

    def sync(self) -> None:
        """Make everything appended durable: one write, one fsync."""
        if self.is_dirty:
            self._journal.sync()

    def compact(self, live: list[Persist], statements: list[Statement]) -> bool:
        """Drop old segments once there are many; repeat first what they hold that still counts.

        Returns whether anything was dropped.
        """
        if len(self._journal.segments) <= MAX_SEGMENTS:
            return False
        self._journal.rotate()
        for guard in (*self._former.values(), self._guard):
            for vow in guard.live_records():
                self._journal.append(encode_record(vow))
        for effect in live:
            self.append(effect)
        for statement in statements:
            self.append_statement(statement)
        self._journal.sync()
        self._journal.prune(KEPT_SEGMENTS)
        return True

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class ObserverJournal:
    """The journal of a node that signs nothing: there is nothing to remember."""

    def __init__(self) -> None:
        self.remembered = Remembered()
        self.is_dirty = False
        self.signs_from = 0

    def append(self, effect: Persist) -> None:
        """Drop an effect; an observer that is about to sign ends the process."""
        match effect:
            case PersistVow(phase):
                raise AssertionError(f"an observer was about to sign a {phase}")

    def append_statement(self, statement: Statement) -> None:
        """Refuse: an observer makes no statements."""
        raise AssertionError(f"an observer made statement {statement.header.counter}")

    def forget_below(self, seq: int) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def compact(self, live: list[Persist], statements: list[Statement]) -> bool:
        """Do nothing; return False."""
        del live, statements
        return False

    def close(self) -> None:
        """Do nothing."""


_FORGOTTEN = (
    "this node cannot know what its key has signed. Restore the journal, import its signing "
    "history, or, for a key that has NEVER signed, run `validator-node signing-history new`"
)
AnyJournal = SigningJournal | ObserverJournal


def journal_paths(state_dir: Path) -> tuple[Path, Path]:
    """Return (folder, marker) of a node's journal."""
    return state_dir / "journal", state_dir / "journal.marker"


def begin_history(state_dir: Path, signer: bytes) -> None:
    """Make the journal of a key that has never signed. Raises `JournalExistsError`."""
    state_dir.mkdir(parents=True, exist_ok=True)
    Journal.create(*journal_paths(state_dir)).close()
    SigningJournal(*journal_paths(state_dir), signer).close()


def open_journal(state_dir: Path, signer: bytes) -> tuple[AnyJournal, str]:
    """Open a node's journal; without a usable one the node observes, and the text says why.

    Raises `JournalLockedError` and what else says nothing about what was signed (rule 8).
    """
    try:
        return SigningJournal(*journal_paths(state_dir), signer), ""
    except (JournalNotCreatedError, JournalMissingError, JournalDamagedError) as error:
        return ObserverJournal(), f"{error}; {_FORGOTTEN}"


def why_resting(journal: AnyJournal, voters: Voters) -> str:
    """Return why a key signs nothing in this epoch though its journal is there, or nothing."""
    if voters.epoch >= journal.signs_from:
        return ""
    return (
        f"what this key has signed before epoch {journal.signs_from} is not fully known here: it "
        "votes again from that epoch on"
    )
