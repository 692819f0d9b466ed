"""One validator with its real driver, database and chain: epochs end, weights arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from chain.embedded import EmbeddedChain
from chain.interface import Metagraph, Neuron, SubnetRules
from chain.submitter import Outcome, ReadBack
from consensus.inputs import WorkPending
from consensus.validators import Voters
from protocol.records.metagraph import EpochMetagraph
from registry import keys as state_keys
from registry.access import neuron, read
from registry.submissions import best_scores
from tests.support import STRANGER, World, make_verdict, replaced
from validator_node.batch_check import Checker
from validator_node.chain_access import ChainAccess
from validator_node.consensus_driver import ConsensusDriver
from validator_node.founding import embedded_chain, now_ms
from validator_node.journal_bridge import begin_history, open_journal
from validator_node.outbox import Outbox
from validator_node.overtaken import is_overtaken
from validator_node.replica import make_engine, statement_pool
from validator_node.speaker import Speaker
from validator_node.store import Store
from validator_node.submission_book import SubmissionBook
from validator_node.weight_service import WeightService

BLOCK_MS, TEMPO = 50, 12
DEADLINE_S = 60.0

Change = Callable[[Metagraph], Metagraph]


class MovingChain(EmbeddedChain):
    """A chain whose metagraph is what the test makes of it."""

    change: Change = staticmethod(lambda graph: graph)

    async def metagraph(self, block_number: int) -> Metagraph:
        return self.change(await super().metagraph(block_number))


class HeldClock:
    """A clock that stands at the chain's start until it is released, and at `last_block` again.

    However slow the machine is, results settle in epoch 0, and no later epoch supersedes it.
    """

    def __init__(self, start_ms: int, last_block: int | None) -> None:
        self._start_ms, self._released_ms = start_ms, 0 if last_block is not None else start_ms
        self._last_ms = None if last_block is None else last_block * BLOCK_MS

    def release(self) -> None:
        self._released_ms = now_ms()

    def __call__(self) -> int:
        if not self._released_ms:
            return self._start_ms
        elapsed = now_ms() - self._released_ms
        return self._start_ms + (elapsed if self._last_ms is None else min(elapsed, self._last_ms))


class Site:
    """The parts of a validator that epochs need, wired as a node wires them."""

    def __init__(self, folder: Path, last_block: int | None = None) -> None:
        self.world = world = World((5,))
        chain = replaced(
            world.genesis.chain, start_ms=now_ms(), block_time_ms=BLOCK_MS, tempo=TEMPO
        )
        world.genesis = replaced(world.genesis, chain=chain)
        world.network_id = world.genesis.network_id
        world.voters = Voters(world.genesis.validators, world.network_id)
        self.store = Store.open(folder / "db", world.genesis)
        begin_history(folder, world.keys[0].public_key)
        self.journal, _ = open_journal(folder, world.keys[0].public_key)
        self.driver = ConsensusDriver(
            make_engine(self.store, self.journal, world.keys[0]),
            self.store,
            self.journal,
            Checker(world.voters, world.network_id),
            statement_pool(self.store, world.voters),
            Outbox(1, 0, lambda _peer, _frame: None),
        )
        self.speaker = Speaker(
            world.voters,
            0,
            world.keys[0],
            say=self.driver.say,
            executed_counter=lambda: self.driver.pool.executed(0),
            is_settled=lambda item: is_overtaken(self.store.tree.view(), item, 0),
            clock_ms=now_ms,
            first_counter=1,
        )
        self.clock = HeldClock(world.genesis.chain.start_ms, last_block)
        self.chain = MovingChain(
            embedded_chain(world.genesis, folder / "chain").genesis, folder / "chain", self.clock
        )
        self.service = WeightService(
            self.store,
            ChainAccess(self.chain, BLOCK_MS / 2000),
            self.speaker,
            world.hotkeys[0],
            self.offer,
            SubmissionBook.open(
                folder / "submissions",
                network_id=world.network_id,
                hotkey=world.hotkeys[0].public_key,
            ),
        )
        self.driver.events.executed.append(self._on_executed)
        self.driver.events.epoch_began.append(self.speaker.begin_epoch)

    @property
    def outcomes(self) -> dict[int, tuple[int, Outcome]]:
        return self.service.submitter.outcomes

    def offer(self, metagraph: EpochMetagraph) -> None:
        batching = self.driver.batching
        if batching.metagraph != metagraph:
            batching.metagraph = metagraph
            self.driver.offer(WorkPending(batching.has_work(self.driver.engine.height)))

    def _on_executed(self, header, outcome) -> None:
        for weights in outcome.weights:
            self.service.on_closed(weights, header.seq)
        self.speaker.wake()

    async def earn(self, score: int = 3) -> None:
        """Let miner 0 have a settled score in epoch 0; then the chain goes on."""
        signed = self.world.signed(expiry_epoch=9)
        self.speaker.add(signed)
        self.speaker.add(make_verdict(signed.submission.submission_id, score))
        await until(lambda: best_scores(self.store.tree.view(), 0) != {})
        self.clock.release()


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - state of many parts, no single event
            await trio.sleep(BLOCK_MS / 2000)


@asynccontextmanager
async def running(
    folder: Path, change: Change | None = None, *, last_block: int | None = None
) -> AsyncIterator[Site]:
    site = Site(folder, last_block)
    if change is not None:
        site.chain.change = change
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.driver.run)
        nursery.start_soon(site.speaker.run)
        nursery.start_soon(site.service.run)
        try:
            yield site
        finally:
            nursery.cancel_scope.cancel()
    site.journal.close()
    site.store.close()


async def test_the_epoch_ends_with_what_the_chain_shows(tmp_path: Path) -> None:
    def change(graph: Metagraph) -> Metagraph:
        first, *others = graph.neurons
        return replace(
            graph,
            neurons=(replace(first, stake=77), *others[:-1]),
            owner_hotkey=STRANGER.public_key,
        )

    async with running(tmp_path, change) as site:
        await until(lambda: site.driver.engine.core.voters.epoch >= 1)
        store, view = site.store, site.store.tree.view()
        assert [member.weight for member in site.driver.engine.core.voters.members] == [77]
        assert store.voters.members == site.driver.engine.core.voters.members
        mark = read(view, state_keys.RegistryMark, state_keys.REGISTRY)
        assert mark is not None
        assert mark.owner == STRANGER.public_key
        assert neuron(view, site.world.miners[-1].public_key) is None
        await until(lambda: site.driver.engine.core.voters.epoch >= 3)
        assert site.driver.no_ops.get("other_metagraph") is None


async def test_weights_arrive_on_the_chain(tmp_path: Path) -> None:
    async with running(tmp_path, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.submitted_epoch >= 0)
        epoch, outcome = site.outcomes[0]
        assert isinstance(outcome, ReadBack)
        assert epoch == 0
        assert await site.chain.weights_of(0) == ((site.world.uid(0), 65535),)


async def test_a_uid_registered_anew_gets_nothing_and_an_empty_vector_is_not_sent(
    tmp_path: Path,
) -> None:
    def change(graph: Metagraph) -> Metagraph:
        uid = 1
        neurons = [replace(one, hotkey=STRANGER.public_key) if one.uid == uid else one
                   for one in graph.neurons]  # fmt: skip
        return replace(graph, neurons=tuple(neurons))

    async with running(tmp_path, change, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.alerts["no_weights"] > 0)
        weights = site.store.weights(0)
        assert weights is not None
        assert [one.reason for one in weights.masked] == ["uid_reused"]
        alerts = site.service.alerts
        assert alerts["masked_uid_reused"] == 1
        assert alerts["unpaid_no_scores"] >= 2
        assert await site.chain.weights_of(0) == ()


async def test_a_hotkey_that_lost_its_registration_says_so(tmp_path: Path) -> None:
    def change(graph: Metagraph) -> Metagraph:
        return replace(graph, neurons=graph.neurons[1:])

    async with running(tmp_path, change, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.alerts["not_registered"] > 0)
        assert site.outcomes == {}
        now = read(site.store.tree.view(), state_keys.Electorate, state_keys.VOTERS)
        assert now is not None
        assert now.reason == "too_few_candidates"
        assert site.service.alerts["set_kept_too_few_candidates"] > 0


@pytest.mark.parametrize("mechanisms", [2])
async def test_every_mechanism_is_submitted_or_named(tmp_path: Path, mechanisms: int) -> None:
    rules = SubnetRules(mechanisms=mechanisms)
    change: Change = lambda graph: replace(graph, rules=rules)  # noqa: E731
    async with running(tmp_path, change, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.alerts["no_weights"] > 0)
        await until(lambda: site.service.submitted_epoch >= 0)
        assert isinstance(site.outcomes[0][1], ReadBack)
        weights = site.store.weights(0)
        assert weights is not None
        assert [one.reason for one in weights.mechanisms] == ["", "no_weights"]


async def test_a_metagraph_that_fits_into_no_batch_is_an_alert_and_the_epoch_goes_on(
    tmp_path: Path,
) -> None:
    def change(graph: Metagraph) -> Metagraph:
        crowd = [Neuron(uid, uid.to_bytes(32), 0, False, 0) for uid in range(10, 2010)]
        return replace(graph, neurons=(*graph.neurons, *crowd), rules=SubnetRules(mechanisms=16))

    async with running(tmp_path, change) as site:
        await until(lambda: site.service.alerts["metagraph_form"] > 1)
        assert site.store.epoch == 0
