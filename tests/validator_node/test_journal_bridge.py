from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consensus.effects import Persist, PersistEpoch, PersistFloor, PersistNote, PersistVow
from consensus.messages import NewView, PrePrepare, ViewChange, Vote
from protocol.codec import ZERO_DIGEST, sha256
from protocol.records.batch import Batch, Header
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate, CheckpointVote
from storage.errors import (
    JournalLockedError,
    JournalMissingError,
    VowBelowFloorError,
    VowConflictError,
)
from tests.support import World, make_verdict
from validator_node import journal_bridge
from validator_node.journal_bridge import (
    ObserverJournal,
    SigningJournal,
    journal_paths,
    why_resting,
)
from validator_node.journal_bridge import open_journal as open_node_journal

WORLD = World()
SIGNER = WORLD.keys[0].public_key
BATCH = Batch(state_root=ZERO_DIGEST, actions=())
HEADER = Header(epoch=0, seq=1, parent=WORLD.network_id, body_root=BATCH.body_root())

Open = Callable[..., SigningJournal]


@pytest.fixture
def open_journal(tmp_path: Path) -> Iterator[Open]:
    """Opens the journal; a second call is a restart without any farewell."""
    opened: list[SigningJournal] = []

    def call(signer: bytes = SIGNER) -> SigningJournal:
        for journal in opened:
            journal.close()
        opened.clear()
        opened.append(
            SigningJournal(tmp_path / "journal", tmp_path / "marker", signer, create=True)
        )
        return opened[0]

    yield call
    for journal in opened:
        journal.close()


def vote(kind: str, seq: int = 1, view: int = 0, epoch: int = 0, text: bytes = b"a") -> PersistVow:
    message = Vote(
        kind=kind,
        epoch=epoch,
        view=view,
        seq=seq,
        digest=sha256(text),
        signer=0,
        signature=bytes(64),
    )
    phase = "prepare" if kind == "reject" else kind
    return PersistVow(phase, epoch, view, seq, message)


def view_change(view: int, text: bytes = b"a") -> PersistVow:
    message = ViewChange(
        epoch=0, view=view, tip=None, prepared=(), signer=0, signature=sha256(text) * 2
    )
    return PersistVow("view-change", 0, view, 0, message)


def checkpoint_vote(seq: int, root: bytes = b"a") -> PersistVow:
    content = Checkpoint(
        epoch=0, seq=seq, chain_hash=bytes(32), state_root=sha256(root), next_set=None
    )
    message = CheckpointVote(checkpoint=content, signer=0, signature=bytes(64))
    return PersistVow("checkpoint", 0, 0, seq, message)


def everything() -> list[Persist]:
    """Return one effect of each kind, in an order that the guard allows."""
    certificate = WORLD.certificate(HEADER, kind="prepare")
    prepare = vote("prepare")
    proposal = PrePrepare(vote=prepare.message, header=HEADER, batch=BATCH)
    new_view = NewView(epoch=0, view=1, view_changes=(), signer=0, signature=bytes(64))
    edge = Checkpoint(
        epoch=0,
        seq=9,
        chain_hash=bytes(32),
        state_root=bytes(32),
        next_set=WORLD.genesis.validators,
    )
    stable = CheckpointCertificate(checkpoint=edge, signers=b"\x07", signatures=(bytes(64),) * 3)
    return [
        prepare,
        PersistNote("proposal", 0, 0, 1, proposal),
        PersistNote("prepared", 0, 0, 1, certificate),
        vote("commit"),
        PersistNote("tip", 0, 0, 1, WORLD.certificate(HEADER)),
        vote("reject", seq=2),
        checkpoint_vote(2),
        PersistFloor(0, 1),
        view_change(1),
        PersistNote("new-view", 0, 1, 0, new_view),
        PersistVow("new-view", 0, 1, 0, new_view),
        PersistEpoch(stable),
    ]


def test_a_restart_brings_back_what_was_persisted(open_journal: Open) -> None:
    journal = open_journal()
    assert journal.remembered.persisted == journal.remembered.statements == []
    for effect in everything():
        journal.append(effect)
    journal.sync()
    assert open_journal().remembered.persisted == everything()
    assert open_journal().remembered.persisted == everything()


def test_what_was_not_synced_was_never_promised(open_journal: Open) -> None:
    journal = open_journal()
    assert not journal.is_dirty
    journal.append(vote("prepare"))
    assert journal.is_dirty
    journal.sync()
    assert not journal.is_dirty
    journal.append(vote("commit"))
    assert open_journal().remembered.persisted == [vote("prepare")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (vote("prepare"), vote("prepare", text=b"b")),
        (vote("prepare"), vote("reject")),
        (vote("reject"), vote("prepare")),
        (vote("commit"), vote("commit", text=b"b")),
        (view_change(1), view_change(1, text=b"b")),
        (checkpoint_vote(5), checkpoint_vote(5, root=b"b")),
    ],
    ids=["prepare", "prepare then reject", "reject then prepare", "commit", "view", "checkpoint"],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_second_different_vote_raises(
    open_journal: Open, first: PersistVow, second: PersistVow, restarted: bool
) -> None:
    journal = open_journal()
    journal.append(first)
    journal.sync()
    if restarted:
        journal = open_journal()
    with pytest.raises(VowConflictError):
        journal.append(second)
    journal.append(first)
    assert not journal.is_dirty
    assert open_journal().remembered.persisted == [first]


def test_other_places_are_free(open_journal: Open) -> None:
    journal = open_journal()
    votes = [
        vote("prepare"),
        vote("commit", text=b"b"),
        vote("prepare", seq=2, text=b"c"),
        vote("prepare", view=1, text=b"d"),
        vote("prepare", epoch=1, text=b"e"),
    ]
    for effect in votes:
        journal.append(effect)
    journal.sync()
    assert open_journal().remembered.persisted == votes


@pytest.mark.parametrize("restarted", [False, True])
def test_nothing_is_signed_below_the_floor(open_journal: Open, restarted: bool) -> None:
    journal = open_journal()
    journal.append(PersistFloor(0, 3))
    journal.sync()
    if restarted:
        journal = open_journal()
    for effect in (vote("prepare", view=2), view_change(2)):
        with pytest.raises(VowBelowFloorError):
            journal.append(effect)
    journal.append(vote("prepare", view=3))
    journal.append(vote("prepare", view=0, epoch=1))


@pytest.mark.parametrize("restarted", [False, True])
def test_nothing_is_signed_for_a_forgotten_slot(open_journal: Open, restarted: bool) -> None:
    journal = open_journal()
    journal.append(vote("prepare", seq=64))
    journal.forget_below(64)
    journal.sync()
    if restarted:
        journal = open_journal()
    with pytest.raises(VowBelowFloorError):
        journal.append(vote("prepare", seq=64))
    with pytest.raises(VowBelowFloorError):
        journal.append(vote("commit", seq=1, view=9))
    journal.append(vote("prepare", seq=65))
    journal.sync()
    journal.forget_below(10)
    assert not journal.is_dirty


def test_own_statements_come_back(open_journal: Open) -> None:
    statements = [
        WORLD.statement(0, make_verdict(sha256(b"%d" % counter)), counter=counter)
        for counter in (1, 2)
    ]
    journal = open_journal()
    journal.append_statement(statements[0])
    journal.append(vote("prepare"))
    journal.append_statement(statements[1])
    journal.sync()
    remembered = open_journal().remembered
    assert remembered.statements == statements
    assert remembered.persisted == [vote("prepare")]


def test_compaction_repeats_what_still_counts(
    open_journal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = [WORLD.statement(0, make_verdict(bytes(32)), counter=n) for n in (1, 2)]
    notes = [PersistNote("tip", 0, view, 1, WORLD.certificate(HEADER)) for view in (0, 1)]
    journal = open_journal()
    for effect in (PersistFloor(0, 1), vote("prepare", view=1), *notes):
        journal.append(effect)
    for statement in statements:
        journal.append_statement(statement)
    journal.sync()
    assert not journal.compact(notes, statements)
    monkeypatch.setattr(journal_bridge, "MAX_SEGMENTS", 0)
    monkeypatch.setattr(journal_bridge, "KEPT_SEGMENTS", 1)
    assert journal.compact(notes[1:], statements[1:])
    journal = open_journal()
    assert journal.remembered.statements == statements[1:]
    kept = [PersistFloor(0, 1), vote("prepare", view=1), notes[1]]
    assert journal.remembered.persisted == kept
    with pytest.raises(VowConflictError):
        journal.append(vote("prepare", view=1, text=b"b"))
    with pytest.raises(VowBelowFloorError):
        journal.append(vote("prepare", view=0))


def test_a_new_consensus_key_does_not_take_over_the_vows_of_the_old(open_journal: Open) -> None:
    journal = open_journal()
    journal.append(PersistFloor(0, 5))
    journal.append(vote("prepare", view=5))
    journal.sync()
    other = open_journal(WORLD.keys[1].public_key)
    assert other.remembered.persisted == []
    other.append(vote("prepare", text=b"b"))
    other.sync()
    with pytest.raises(VowBelowFloorError):
        open_journal().append(vote("prepare"))


def test_a_node_that_forgot_does_not_sign(open_journal: Open, tmp_path: Path) -> None:
    journal = open_journal()
    journal.append(vote("prepare"))
    journal.sync()
    journal.close()
    for segment in (tmp_path / "journal").iterdir():
        segment.unlink()
    with pytest.raises(JournalMissingError):
        SigningJournal(tmp_path / "journal", tmp_path / "marker", SIGNER)


@contextmanager
def closing(journal: SigningJournal) -> Iterator[SigningJournal]:
    try:
        yield journal
    finally:
        journal.close()


def test_a_journal_is_used_by_one_process_only(tmp_path: Path) -> None:
    place = (tmp_path / "journal", tmp_path / "marker", SIGNER)
    with closing(SigningJournal(*place, create=True)), pytest.raises(JournalLockedError):
        SigningJournal(*place)
    with closing(SigningJournal(*place)) as journal:
        assert journal.remembered.persisted == []


def test_a_node_without_a_journal_observes_and_says_why(tmp_path: Path) -> None:
    journal, reason = open_node_journal(tmp_path, SIGNER)
    assert isinstance(journal, ObserverJournal)
    assert "never been one" in reason
    assert not (tmp_path / "journal.marker").exists()
    with pytest.raises(AssertionError, match="about to sign"):
        journal.append(vote("prepare"))
    assert not journal.is_dirty
    SigningJournal(*journal_paths(tmp_path), SIGNER, create=True).close()
    journal, reason = open_node_journal(tmp_path, SIGNER)
    assert isinstance(journal, SigningJournal)
    assert reason == ""
    journal.close()


def test_why_a_key_rests_is_said_until_its_epoch_has_come(open_journal: Open) -> None:
    journal = open_journal()
    assert why_resting(journal, WORLD.voters) == ""
    journal.append(PersistFloor(2, 0))
    assert "before epoch 2" in why_resting(journal, WORLD.voters_of(1))
    assert why_resting(journal, WORLD.voters_of(2)) == ""
    assert why_resting(ObserverJournal(), WORLD.voters) == ""
