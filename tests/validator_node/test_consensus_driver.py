"""The driver and what validators send it: what is refused, and who is charged for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.inputs import Timer
from consensus.messages import DecidedSlot, Vote
from protocol.codec import sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from tests.support import World, make_verdict, replaced
from tests.validator_node.test_links import Watched
from validator_node.batch_check import Checker
from validator_node.consensus_driver import ConsensusDriver
from validator_node.journal_bridge import SigningJournal, begin_history, journal_paths
from validator_node.outbox import Outbox
from validator_node.replica import make_engine, statement_pool
from validator_node.store import Store

ME = 3
DEADLINE_S = 10
VERDICT = make_verdict(sha256(b"submission"))


class Site:
    """A validator's driver; `charged` says whom it would charge for what."""

    def __init__(self, world: World, folder: Path, me: int = ME) -> None:
        self.world, self.me = world, me
        self.store = Store.open(folder / "db", world.genesis, create=True)
        key = world.keys[me]
        begin_history(folder, key.public_key)
        self.journal = SigningJournal(*journal_paths(folder), key.public_key)
        self.charged: list[tuple[int, str]] = []

    def start(self) -> ConsensusDriver:
        """Make the driver over what the store holds by now."""
        engine = make_engine(self.store, self.journal, self.world.keys[self.me])
        voters = engine.core.voters
        self.driver = ConsensusDriver(
            engine,
            self.store,
            self.journal,
            Checker(voters, self.world.network_id),
            statement_pool(self.store, voters),
            Outbox(len(voters), self.me, lambda *_: None),
        )
        self.driver.refused = self.refused = Watched()
        self.driver.events.refused.append(lambda *charge: self.charged.append(charge))
        return self.driver

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def site(tmp_path: Path):
    made = Site(World(window=2), tmp_path)
    yield made
    made.journal.close()
    made.store.close()


@pytest.fixture
def primary(tmp_path: Path):
    made = Site(World(window=2), tmp_path, me=0)
    yield made
    made.journal.close()
    made.store.close()


def vote_of(world: World, signer: int) -> Vote:
    key = world.keys[signer]
    digest = sha256(b"digest")
    payload = vote_payload(
        world.voters.domain,
        VoteKind.PREPARE,
        view=0,
        seq=1,
        digest=digest,
        signer=key.public_key,
    )
    return Vote(
        kind="prepare",
        epoch=world.voters.epoch,
        view=0,
        seq=1,
        digest=digest,
        signer=signer,
        signature=key.sign(payload),
    )


# --- statements ----------------------------------------------------------------------------------


async def test_who_passes_on_a_bad_statement_is_charged(site: Site) -> None:
    driver = site.start()
    good = site.world.statement(0, VERDICT, counter=1)
    unsigned = replaced(site.world.statement(2, VERDICT, counter=1), signature=bytes(64))
    nobody = replaced(good, header=replaced(good.header, signer=9))
    async with site.running():
        await driver.put(1, [good, unsigned, nobody, good])
        await site.refused.reach("invalid_batch", 2)
    assert site.charged == [(1, "bad_statement")] * 2
    assert driver.pool.waiting() == [good]


async def test_a_statement_of_another_epoch_is_counted_and_charged_to_nobody(site: Site) -> None:
    driver = site.start()
    other = World()
    other.begin_epoch(1)
    async with site.running():
        await driver.put(1, [other.statement(0, VERDICT, counter=1)])
        await site.refused.reach("wrong_epoch", 1)
    assert site.charged == []
    assert len(driver.pool) == 0


# --- the edge of an epoch ------------------------------------------------------------------------


def to_the_edge(site: Site, *, without_first: bool) -> CheckpointCertificate:
    """Execute every slot of the epoch; return the checkpoint that opens the next one."""
    world = site.world
    first, *others = world.genesis.neurons
    neurons = (replaced(first, validator_permit=not without_first), *others)
    world.decide(site.store, *world.agreeing(world.metagraph(1, neurons=neurons)))
    edge = site.store.edge()
    assert edge is not None
    while site.store.height < edge.seq:
        world.decide(site.store)
    root = site.store.root_after(edge.seq)
    assert root is not None
    return world.stable(
        Checkpoint(
            epoch=0,
            seq=edge.seq,
            chain_hash=site.store.chain_hash,
            state_root=root,
            next_set=edge.next_set,
        )
    )


async def test_what_came_before_an_index_changed_hands_is_charged_to_nobody(site: Site) -> None:
    opening = to_the_edge(site, without_first=True)
    driver = site.start()
    await driver.learn(opening)
    await driver.put(1, [vote_of(site.world, 1), site.world.statement(1, VERDICT)])
    async with site.running():
        await site.refused.reach("epoch_passed", 2)
    assert driver.engine.core.voters.epoch == 1
    assert driver.engine.core.voters.index_of_key(site.world.keys[1].public_key) == 0
    assert site.charged == []


async def test_a_vote_of_the_epoch_before_is_no_foreign_vote(site: Site) -> None:
    """Its sender has another index by now; both it and we are honest."""
    opening = to_the_edge(site, without_first=True)
    old = vote_of(site.world, 1)
    driver = site.start()
    began = trio.Event()
    driver.events.epoch_began.append(lambda *_: began.set())
    await driver.learn(opening)
    async with site.running():
        with trio.fail_after(DEADLINE_S):
            await began.wait()
        await driver.put(0, [old])
        await site.refused.reach("wrong_epoch", 1)
    assert site.charged == [(0, "wrong_epoch")]


async def test_what_the_same_validator_sent_is_taken_across_the_edge(site: Site) -> None:
    opening = to_the_edge(site, without_first=False)
    driver = site.start()
    await driver.learn(opening)
    site.world.begin_epoch(1)
    said = site.world.statement(1, VERDICT)
    await driver.put(1, [said, vote_of(site.world, 2)])
    async with site.running():
        await site.refused.reach("foreign_vote", 1)
    assert driver.pool.waiting() == [said]
    assert "epoch_passed" not in site.refused


async def test_whether_there_is_work_is_looked_up_when_its_turn_comes(site: Site) -> None:
    driver = site.start()
    async with site.running():
        await trio.testing.wait_all_tasks_blocked()
        # In one turn: a statement makes work, and something of which nothing is to be ordered yet
        # has it looked. What was true when that was queued must not hide the statement.
        await driver.put(1, [site.world.statement(1, VERDICT, counter=1)])
        driver.tell_work()
        await trio.testing.wait_all_tasks_blocked()
        assert driver.engine.core.pending
        assert driver.batching.has_work(driver.engine.height)


# --- turns ---------------------------------------------------------------------------------------

A_SECOND_OF_TURNS = 20


def counting_turns(driver: ConsensusDriver) -> list[int]:
    """Return the sizes of the driver's turns; more than `A_SECOND_OF_TURNS` are an error.

    The journal is synced in place: the autojump clock takes waiting for a thread for idleness.
    """
    sizes: list[int] = []
    driver._saving._sync_s = 0
    perform = driver._turn

    async def turn(items) -> None:
        sizes.append(len(items))
        assert len(sizes) <= A_SECOND_OF_TURNS, "it spins"
        await perform(items)

    driver._turn = turn  # type: ignore[method-assign]
    return sizes


async def test_a_batch_closes_in_a_turn_without_inputs(
    primary: Site, autojump_clock: trio.testing.MockClock
) -> None:
    driver = primary.start()
    sizes = counting_turns(driver)
    async with primary.running():
        await trio.testing.wait_all_tasks_blocked()
        await driver.put(1, [primary.world.statement(1, VERDICT, counter=1)])
        await trio.sleep(0.9)  # less than the time-outs
    assert [len(batch.actions) for batch in driver.engine.in_flight] == [1, 0]  # a root is owed
    assert sizes[1:] == [1, 0, 0]
    assert driver.batching.close_at is None


async def test_nothing_spins_when_nothing_happens(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    driver = site.start()
    sizes = counting_turns(driver)
    async with site.running():
        await trio.sleep(20)
    assert len(sizes) == 1


async def test_a_timer_that_was_restarted_meanwhile_has_not_fired(site: Site) -> None:
    """What waited while this node was busy counts before the time that it took."""
    driver = site.start()
    said = site.world.statement(1, VERDICT)
    async with site.running():
        await driver.put(1, [said])
        await trio.testing.wait_all_tasks_blocked()
        assert Timer.PROGRESS in driver._timers
        driver._timers.set(Timer.PROGRESS, -1)  # a turn took so long
        batch, certificate = site.world.next_slot(site.store, said)
        await driver.learn(DecidedSlot(batch=batch, certificate=certificate))
        await trio.testing.wait_all_tasks_blocked()
    assert driver.engine.height == 1
    assert driver.engine.view == 0
