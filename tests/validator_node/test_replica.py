"""The engine a node begins with: from the journal, from the database, from a snapshot."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from consensus.effects import Persist, PersistEpoch
from consensus.engine import Engine
from consensus.messages import DecidedSlot
from protocol.codec import sha256
from tests.support import World, make_verdict
from validator_node.batch_check import Checker
from validator_node.config import NodeConfig
from validator_node.consensus_driver import ConsensusDriver
from validator_node.errors import ResyncNeeded
from validator_node.journal_bridge import (
    AnyJournal,
    ObserverJournal,
    SigningJournal,
    begin_history,
    journal_paths,
    open_journal,
)
from validator_node.outbox import Outbox
from validator_node.replica import RelearningJournal, make_engine, open_replica, statement_pool
from validator_node.store import Store

ME = 0
DEADLINE_S = 20
VERDICT = make_verdict(sha256(b"submission"))


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


# --- a database that ends before its journal's epoch ----------------------------------------------


class Restored:
    """A validator whose database was lost back to slot 1, while its journal has seen epoch 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(window=2)
        world = self.world
        store = Store.open(folder / "state" / "db", world.genesis, create=True)
        world.decide(store, *[world.statement(signer, VERDICT) for signer in range(4)])
        store.flush()
        shutil.copytree(folder / "state" / "db", folder / "before")
        world.end_epoch(store)
        self.edge = world.certify(store, edge=True)
        world.decide(store)
        self.slots = [
            DecidedSlot(batch=decided[0], certificate=decided[1])
            for seq in range(2, store.height + 1)
            if (decided := store.batch_at(seq)) is not None
        ]
        store.close()
        key = world.keys[ME]
        begin_history(folder / "state", key.public_key)
        journal = SigningJournal(*journal_paths(folder / "state"), key.public_key)
        journal.append(PersistEpoch(self.edge))
        journal.sync()
        journal.close()
        shutil.rmtree(folder / "state" / "db")
        (folder / "before").rename(folder / "state" / "db")
        self.config = NodeConfig(
            genesis=folder / "genesis.bin",
            keystore=folder / "keystore",
            state_dir=folder / "state",
            chain_dir=folder / "chain",
        )

    def open(self) -> tuple[Store, AnyJournal, Engine, str]:
        return open_replica(self.config, self.world.genesis, self.world.keys[ME])

    @contextmanager
    def opened(self) -> Iterator[tuple[ConsensusDriver, str]]:
        store, journal, engine, why = self.open()
        voters = engine.core.voters
        driver = ConsensusDriver(
            engine,
            store,
            journal,
            Checker(voters, self.world.network_id),
            statement_pool(store, voters),
            Outbox(len(voters), engine.core.me, lambda *_: None),
        )
        if isinstance(journal, RelearningJournal):
            driver.events.epoch_began.append(journal.on_epoch)
        yield driver, why
        journal.close()
        store.flush()
        store.close()


async def relearn(driver: ConsensusDriver, restored: Restored, slots: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        reached = trio.Event()
        driver.events.executed.append(lambda header, _: header.seq == slots + 1 and reached.set())
        for slot in restored.slots[:slots]:
            await driver.learn(slot)
        with trio.fail_after(DEADLINE_S):
            await reached.wait()
        nursery.cancel_scope.cancel()


async def test_a_database_behind_its_journals_epoch_is_relearned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = Restored(tmp_path)
    assert restored.edge.checkpoint.seq == 4
    with restored.opened() as (driver, why):
        assert "ends at slot 1" in why
        assert (driver.engine.core.voters.epoch, driver.engine.core.me) == (0, None)
        # The statements' counters are those of the epoch that the database is in.
        assert [driver.pool.executed(signer) for signer in range(4)] == [1, 1, 1, 1]
        await relearn(driver, restored, 2)
    unsaved: list[bool] = []

    def append(_: RelearningJournal, effect: Persist) -> None:
        if isinstance(effect, PersistEpoch):
            unsaved.append(driver._store.is_dirty)

    monkeypatch.setattr(RelearningJournal, "append", append)
    with restored.opened() as (driver, why):
        assert "ends at slot 3" in why
        driver_slots, restored.slots = restored.slots, restored.slots[2:]
        with pytest.raises(ExceptionGroup) as ended:
            await relearn_rest(driver, restored)
        assert ended.group_contains(ResyncNeeded)
        assert unsaved == [False]  # the store is on the disk before a journal knows the epoch
        restored.slots = driver_slots
    with restored.opened() as (driver, why):
        assert why == ""
        assert (driver.engine.core.voters.epoch, driver.engine.core.me) == (1, ME)
        assert driver.engine.height == 4
        assert [driver.pool.executed(signer) for signer in range(4)] == [0, 0, 0, 0]
        await driver_takes(driver, restored.slots[-1])


async def relearn_rest(driver: ConsensusDriver, restored: Restored) -> None:
    """Let the driver execute up to the edge and cross it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        await driver.learn(restored.slots[0])
        await driver.learn(restored.edge)
        with trio.fail_after(DEADLINE_S):
            await trio.sleep_forever()


async def driver_takes(driver: ConsensusDriver, slot: DecidedSlot) -> None:
    executed = trio.Event()
    driver.events.executed.append(lambda *_: executed.set())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        await driver.learn(slot)
        with trio.fail_after(DEADLINE_S):
            await executed.wait()
        nursery.cancel_scope.cancel()
