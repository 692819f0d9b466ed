"""A validator that is moved to another machine must not help a second batch to a certificate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.effects import Broadcast, CheckBatch, Persist
from consensus.engine import Engine
from consensus.inputs import BatchChecked, Propose, Received, Timer, TimerFired, WorkPending
from consensus.messages import PrePrepare, ViewChange, Vote
from consensus.succession import select
from protocol.records.batch import Batch
from storage.signing_history import (
    NoteEntry,
    SigningHistory,
    export_history,
    import_history,
    needed_notes,
    parse_history,
    skip_epochs,
)
from storage.vow import Note
from tests.support import World, make_verdict
from validator_node.journal_bridge import SigningJournal, begin_history, journal_paths
from validator_node.replica import make_engine
from validator_node.store import Store

WORLD = World((1, 1, 1, 1))
BATCH = Batch(state_root=bytes(32), actions=())


class Machine:
    """One validator's data and engine; what it must make durable is made durable."""

    def __init__(self, folder: Path, member: int) -> None:
        self.folder, self.member = folder, member
        folder.mkdir(exist_ok=True)
        if not journal_paths(folder)[1].exists():
            begin_history(folder, self.key.public_key)
        self.store = Store.open(folder / "db", WORLD.genesis, create=True)
        self.journal = SigningJournal(*journal_paths(folder), self.key.public_key)
        self.engine: Engine = make_engine(self.store, self.journal, self.key)

    @property
    def key(self):
        return WORLD.keys[self.member]

    def step(self, event) -> list:
        """Apply an input and approve what is proposed; return what is said."""
        said = []
        for effect in self.engine.step(event):
            if isinstance(effect, Persist):
                self.journal.append(effect)
            elif isinstance(effect, CheckBatch):
                said += self.step(BatchChecked(effect.view, effect.seq, effect.digest, valid=True))
            elif isinstance(effect, Broadcast):
                said.append(effect.message)
        self.journal.sync()
        return said

    def stop(self) -> None:
        self.journal.close()
        self.store.close()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Four validators on perfect links but for COMMITs: slot 1 is prepared by all, undecided."""
    made = [Machine(tmp_path / str(member), member) for member in range(4)]
    queue = [
        (primary.member, message)
        for primary in made
        for message in primary.step(Propose(BATCH))  # only the primary does
    ]
    while queue:
        origin, message = queue.pop(0)
        if isinstance(message, Vote) and message.kind == "commit":
            continue
        for machine in made:
            if machine.member != origin and isinstance(message, Vote | PrePrepare):
                said = machine.step(Received(origin, message))
                queue += [(machine.member, following) for following in said]
    yield made
    for machine in made:
        machine.stop()


def move(old: Machine, folder: Path, text: str | None = None) -> Machine:
    """Export here, import there, and start there with an empty database."""
    old.journal.close()
    if text is None:
        text = export_history(*journal_paths(old.folder), WORLD.network_id)
    folder.mkdir()
    history = parse_history(text, folder)
    import_history(*journal_paths(folder), WORLD.network_id, history)
    old.journal = SigningJournal(*journal_paths(old.folder), old.key.public_key)
    return Machine(folder, old.member)


def asked_by(machine: Machine) -> ViewChange:
    """Let its progress time-out run out and return the view change."""
    machine.step(WorkPending(pending=True))
    found = [m for m in machine.step(TimerFired(Timer.PROGRESS)) if isinstance(m, ViewChange)]
    (change,) = found
    return change


def test_a_moved_validator_still_names_what_it_committed(
    machines: list[Machine], tmp_path: Path
) -> None:
    """One Byzantine of four and a mover without memory would select another batch for slot 1."""
    moved = move(machines[1], tmp_path / "new")
    try:
        change = asked_by(moved)
        (prepared,) = change.prepared
        committed = machines[0].engine.core.slots[1].committed
        assert prepared.header.digest == committed
        # The third of the quorum lies and says that it knows of nothing.
        headers = select([change], (0, WORLD.network_id)).headers
        assert [header.digest for header in headers] == [committed]
    finally:
        moved.stop()


def test_what_a_restart_knows_a_move_knows(machines: list[Machine], tmp_path: Path) -> None:
    old = machines[2]
    old.journal.append_statement(WORLD.statement(2, make_verdict(bytes(32))))
    old.journal.sync()
    moved = move(old, tmp_path / "new")
    old.journal.close()
    again = SigningJournal(*journal_paths(old.folder), old.key.public_key)
    try:
        assert moved.journal.remembered.statements == again.remembered.statements != []
        restarted = make_engine(old.store, again, old.key)
        for engine in (moved.engine, restarted):
            assert engine.core.me == 2
        assert moved.engine.core.slots[1].prepared == restarted.core.slots[1].prepared
        assert asked_by(moved).prepared == (restarted.core.slots[1].prepared,)
    finally:
        moved.stop()
        again.close()


def bare(text: str) -> str:
    """Return a document as it was before notes were part of it."""
    document = json.loads(text)
    document["version"] = 1
    del document["notes"]
    return json.dumps(document)


def test_a_history_without_notes_lets_its_key_rest_until_the_next_epoch(
    machines: list[Machine], tmp_path: Path
) -> None:
    text = export_history_of(machines[1])
    moved = move(machines[1], tmp_path / "new", bare(text))
    try:
        core = moved.engine.core
        assert (core.me, core.key, core.signs_from) == (None, moved.key.public_key, 1)
        moved.step(WorkPending(pending=True))
        assert moved.step(TimerFired(Timer.PROGRESS)) == []
        assert core.own_index(WORLD.voters) is None
        assert core.own_index(WORLD.voters_of(1)) == 1
    finally:
        moved.stop()


def export_history_of(machine: Machine) -> str:
    machine.journal.close()
    text = export_history(*journal_paths(machine.folder), WORLD.network_id)
    machine.journal = SigningJournal(*journal_paths(machine.folder), machine.key.public_key)
    return text


def test_an_import_never_goes_back_behind_what_is_known(tmp_path: Path) -> None:
    paths = journal_paths(tmp_path)
    begin_history(tmp_path, WORLD.keys[0].public_key)

    def bring(*seqs: int) -> int:
        notes = tuple(NoteEntry(kind="tip", seq=seq, view=0, body="00") for seq in seqs)
        network = WORLD.network_id.hex()
        history = SigningHistory(version=2, network_id=network, signers=(), notes=notes)
        parsed = parse_history(history.model_dump_json(), tmp_path)
        return import_history(*paths, WORLD.network_id, parsed)

    assert bring(9) == 1
    assert bring(9) == bring(8) == bring() == 0
    assert bring(10) == 1


def test_only_what_somebody_may_still_need_is_carried() -> None:
    def note(kind: str, seq: int, body: bytes = b"x") -> Note:
        return Note(kind=kind, body=body, seq=seq, view=0)

    records = [
        note("epoch", 4), note("prepared", 5), note("tip", 5), note("proposal", 6),
        note("prepared", 6), note("tip", 6), note("epoch", 6), note("prepared", 7),
        note("proposal", 8), note("prepared", 7), note("new-view", 0, b"1"),
        note("new-view", 0, b"2"),
        *(note("statement", counter) for counter in range(40)),
    ]  # fmt: skip
    kept = [(n.kind, n.seq, n.body) for n in needed_notes(records, 5) if n.kind != "statement"]
    assert kept == [
        ("proposal", 6, b"x"), ("prepared", 6, b"x"), ("tip", 6, b"x"), ("epoch", 6, b"x"),
        ("prepared", 7, b"x"), ("proposal", 8, b"x"), ("new-view", 0, b"2"),
    ]  # fmt: skip
    assert [n.kind for n in needed_notes(records, 9) if n.kind == "tip"] == ["tip"]
    counters = [n.seq for n in needed_notes(records, 5) if n.kind == "statement"]
    assert counters == list(range(8, 40))


def test_a_journal_that_may_be_old_rests_through_the_epoch_that_is_named(
    machines: list[Machine],
) -> None:
    """A backup cannot know what was signed since; its operator can say which epoch it is."""
    old = machines[1]
    old.stop()
    skip_epochs(*journal_paths(old.folder), old.key.public_key, 4)
    skip_epochs(*journal_paths(old.folder), old.key.public_key, 2)  # no mark is lowered
    again = Machine(old.folder, old.member)
    try:
        core = again.engine.core
        assert (core.me, core.signs_from) == (None, 5)
        assert core.own_index(WORLD.voters_of(4)) is None
        assert core.own_index(WORLD.voters_of(5)) == 1
    finally:
        again.stop()
        old.store = Store.open(old.folder / "db", WORLD.genesis)
        old.journal = SigningJournal(*journal_paths(old.folder), old.key.public_key)
