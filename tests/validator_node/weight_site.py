"""A validator with its real driver, database and chain, wired as a node wires them for epochs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from chain.bittensor import ChainStatus
from chain.embedded import EmbeddedChain
from chain.interface import Metagraph
from chain.submitter import Outcome
from consensus.inputs import WorkPending
from consensus.validators import Voters
from protocol.records.metagraph import EpochMetagraph
from registry.submissions import best_scores
from tests.support import World, make_verdict, replaced
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
MANY_READS = 40
DEADLINE_S = 60.0

Change = Callable[[Metagraph], Metagraph]
Status = Callable[[], ChainStatus | None]


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


class SteppedClock:
    """A clock that stands at `block` until the test moves it; `reads` counts who asked."""

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self.block = self.reads = 0

    def __call__(self) -> int:
        self.reads += 1
        return self._start_ms + self.block * BLOCK_MS

    async def settled(self) -> None:
        """Return when whoever watches the chain has looked again, many times."""
        wanted = self.reads + MANY_READS
        await until(lambda: self.reads > wanted)


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
        self.store = Store.open(folder / "db", world.genesis, create=True)
        begin_history(folder, world.keys[0].public_key)
        self.journal, _ = open_journal(folder, world.keys[0].public_key)
        self.driver = ConsensusDriver(
            make_engine(self.store, self.journal, world.keys[0]),
            self.store,
            self.journal,
            Checker(world.voters, world.network_id),
            statement_pool(self.store, world.voters),
            Outbox(1, 0, lambda *_: None),
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
        self.book = SubmissionBook.open(
            folder / "submissions",
            network_id=world.network_id,
            hotkey=world.hotkeys[0].public_key,
        )
        self.service = self.make_service()
        self.driver.events.executed.append(self._on_executed)
        self.driver.events.epoch_began.append(self.speaker.begin_epoch)

    def make_service(self, status: Status = lambda: None) -> WeightService:
        return WeightService(
            self.store,
            ChainAccess(self.chain, BLOCK_MS / 2000, status=status),
            self.speaker,
            self.world.hotkeys[0],
            self.offer,
            self.book,
        )

    def close(self) -> None:
        self.journal.close()
        self.store.close()

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
    site.close()


class Closed:
    """A site whose state has closed epoch 0 at the chain's block `TEMPO`; only the service runs.

    Miner 0 earned something. The chain stands where the test puts it.
    """

    def __init__(self, folder: Path, *, neurons: int | None = None, closed: bool = True) -> None:
        self.site = site = Site(folder)
        self.clock = SteppedClock(site.world.genesis.chain.start_ms)
        self.clock.block = TEMPO + 2
        site.chain = MovingChain(site.chain.genesis, folder / "chain", self.clock)
        world, store = site.world, site.store
        if closed:
            signed = world.signed(expiry_epoch=9)
            verdict = make_verdict(signed.submission.submission_id, 3)
            world.decide(store, world.statement(0, signed), world.statement(0, verdict))
            graph = world.metagraph(1, block=TEMPO)
            if neurons is not None:
                graph = replaced(graph, neurons=graph.neurons[neurons:])
            world.decide(store, *world.agreeing(graph))
            for _ in range(world.genesis.parameters.window):
                world.decide(store)
            world.begin_epoch(store.epoch)
        site.service = site.make_service()

    def certify(self) -> None:
        """Decide as many slots as certify the epoch's weights."""
        for _ in range(self.site.world.genesis.parameters.window):
            self.site.world.decide(self.site.store)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WeightService]:
        """Run the service as after a restart."""
        async with trio.open_nursery() as nursery:
            self.site.service.resume()
            nursery.start_soon(self.site.service.run)
            try:
                yield self.site.service
            finally:
                nursery.cancel_scope.cancel()
        self.site.close()
