from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.effects import PersistVow
from consensus.messages import Vote
from storage.errors import VowBelowFloorError
from tests.support import World
from validator_node.journal_bridge import SigningJournal
from validator_node.saving import FLUSH_S, Saving
from validator_node.store import Store

WORLD = World()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Store, SigningJournal, Saving]]:
    store = Store.open(tmp_path / "db", WORLD.genesis, create=True)
    key = WORLD.keys[0].public_key
    journal = SigningJournal(tmp_path / "journal", tmp_path / "marker", key, create=True)
    yield store, journal, Saving(store, journal)
    journal.close()
    store.close()


def promise(journal: SigningJournal, seq: int) -> None:
    vote = Vote(
        kind="commit", epoch=0, view=0, seq=seq, digest=bytes(32), signer=0, signature=bytes(64)
    )
    journal.append(PersistVow("commit", 0, 0, seq, vote))


def test_rule_1_a_change_is_flushed_a_while_after_it_was_made(parts) -> None:
    store, _, saving = parts
    assert not saving.save(1.0)
    assert saving.due_at is None
    WORLD.decide(store)
    saving.save(2.0)
    assert saving.due_at == 2.0 + FLUSH_S
    saving.save(2.0 + FLUSH_S / 2)
    assert store.is_dirty
    saving.save(2.0 + FLUSH_S)
    assert not store.is_dirty
    assert saving.due_at is None


def test_rule_2_a_stable_checkpoint_is_flushed_before_the_journal_forgets(parts) -> None:
    store, journal, saving = parts
    WORLD.decide(store)
    promise(journal, 1)
    saving.cover(1)
    assert saving.save(2.0)
    assert not store.is_dirty
    with pytest.raises(VowBelowFloorError):
        promise(journal, 1)
    assert not saving.save(3.0)


def test_rule_2_nothing_is_forgotten_that_is_not_executed_here(parts) -> None:
    store, journal, saving = parts
    WORLD.decide(store)
    saving.cover(3)  # others are ahead: this node still votes on slots 2 and 3
    assert saving.save(2.0)
    promise(journal, 2)
    with pytest.raises(VowBelowFloorError):
        promise(journal, 1)
    WORLD.decide(store)
    assert saving.save(3.0)
    with pytest.raises(VowBelowFloorError):
        promise(journal, 2)
    promise(journal, 3)


def test_rule_3_what_an_own_statement_speaks_of_is_flushed_with_it(parts) -> None:
    store, _, saving = parts
    WORLD.decide(store)
    saving.hurry()
    saving.save(2.0)
    assert not store.is_dirty
    assert saving.due_at is None
