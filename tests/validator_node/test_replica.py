"""The engine a node begins with: from the journal, from the database, from a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.effects import PersistEpoch
from tests.support import World
from validator_node.journal_bridge import (
    ObserverJournal,
    SigningJournal,
    begin_history,
    journal_paths,
    open_journal,
)
from validator_node.replica import make_engine
from validator_node.store import Store


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store(world: World, tmp_path: Path):
    opened = Store.open(tmp_path / "db", world.genesis, create=True)
    yield opened
    opened.close()


def journal_of(world: World, folder: Path) -> SigningJournal:
    begin_history(folder, world.keys[0].public_key)
    return SigningJournal(*journal_paths(folder), world.keys[0].public_key)


def test_a_new_validator_votes_and_one_without_a_journal_observes(
    world: World, store: Store, tmp_path: Path
) -> None:
    journal, reason = open_journal(tmp_path, world.keys[0].public_key)
    assert reason
    observer = make_engine(store, journal, world.keys[0])
    assert observer.core.me is None
    assert observer.core.key is None
    journal = journal_of(world, tmp_path)
    validator = make_engine(store, journal, world.keys[0])
    assert validator.core.me == 0
    journal.close()


def test_a_key_outside_the_set_follows_and_would_vote_once_a_set_names_it(
    world: World, store: Store, tmp_path: Path
) -> None:
    outsider = World((1,) * 5).keys[4]
    begin_history(tmp_path, outsider.public_key)
    journal = SigningJournal(*journal_paths(tmp_path), outsider.public_key)
    engine = make_engine(store, journal, outsider)
    assert (engine.core.me, engine.core.key) == (None, outsider.public_key)
    journal.close()


def test_an_older_journal_learns_the_epochs_that_the_database_is_ahead(
    world: World, store: Store, tmp_path: Path
) -> None:
    for _ in range(2):
        world.decide(store)
        world.end_epoch(store)
        edge = world.certify(store, edge=True)
        world.decide(store)
    store.flush()
    journal = journal_of(world, tmp_path)
    engine = make_engine(store, journal, world.keys[0])
    core = engine.core
    assert (core.voters.epoch, core.me, core.height) == (2, 0, store.height)
    assert core.epoch_base == (edge.checkpoint.seq, edge.checkpoint.chain_hash)
    journal.close()
    reopened = SigningJournal(*journal_paths(tmp_path), world.keys[0].public_key)
    assert reopened.remembered.persisted == [PersistEpoch(edge)]
    assert make_engine(store, reopened, world.keys[0]).core.voters.epoch == 2
    assert reopened.remembered.persisted == [PersistEpoch(edge)]  # not a second time
    reopened.close()


def test_an_observer_begins_in_the_epoch_of_its_database(world: World, store: Store) -> None:
    world.end_epoch(store)
    world.certify(store, edge=True)
    world.decide(store)
    store.flush()
    engine = make_engine(store, ObserverJournal(), world.keys[0])
    assert (engine.core.voters.epoch, engine.core.me) == (1, None)
