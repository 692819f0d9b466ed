"""One node of the consensus benchmark, in a process of its own.

It is put together from the product's parts as `validator_node.node` does it, without evaluation and
gossip. Its argument is a `Spec` as JSON. It prints `ready` once it is linked to everybody; after a
line on its standard input it warms up, measures, prints a `Measured` as JSON, and goes on until its
standard input ends.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog
import trio

from consensus.engine import Engine
from protocol.actions import Action
from protocol.codec import encode, sha256
from protocol.identity import verify_consensus
from protocol.records.statement import Observation
from tests.benchmarks.sampling import Sampler
from tests.benchmarks.tables import show
from tests.benchmarks.tcp_links import HOST, TcpLinks
from tests.support import World
from validator_node.batch_check import Checker
from validator_node.consensus_driver import ConsensusDriver
from validator_node.journal_bridge import SigningJournal
from validator_node.links import ConsensusLinks
from validator_node.network.host import peer_id_of
from validator_node.network.network import NetworkConfig, open_network
from validator_node.outbox import Outbox
from validator_node.peers import Peers
from validator_node.statements import MAX_WAITING, StatementPool
from validator_node.store import Store

FOREVER = 1_000_000_000
PATIENCE_MS = 20_000
POLL_S = 0.02


class Spec(msgspec.Struct, frozen=True):
    """What one node is told."""

    index: int
    window: int
    transport: str
    ports: list[int]
    folder: str
    warmup_s: float
    seconds: float
    profile: bool


class Counts(msgspec.Struct, frozen=True):
    """Totals since the start."""

    at_s: float
    cpu_s: float
    decisions: int
    messages: int
    frames: int
    frame_bytes: int


class Measured(msgspec.Struct, frozen=True):
    """What one node reports."""

    before: Counts
    after: Counts
    decision_ms: list[float]
    """From proposal to execution; only the primary has any."""
    profile: dict[str, list[tuple[str, float]]]


class OneAtATime(StatementPool):
    """Lets each batch hold one statement, so that all batches are of one size."""

    def take(self, in_flight) -> list[Action]:
        return super().take(in_flight)[:1]


class BenchmarkNode:
    """The parts of one node."""

    def __init__(self, spec: Spec, world: World) -> None:
        self.spec = spec
        self.world = world
        folder = Path(spec.folder)
        key = world.keys[spec.index]
        self.store = Store.open(folder / "db", world.genesis, create=True)
        self.journal = SigningJournal(
            folder / "journal", folder / "marker", key.public_key, create=True
        )
        self.engine = Engine(
            world.voters,
            spec.index,
            sign=key.sign,
            verify=verify_consensus,
            parameters=world.genesis.parameters,
            genesis_digest=world.network_id,
        )
        self.send_frame = None
        self.outbox = Outbox(len(world.voters), spec.index, self._send_frame)
        self.driver = ConsensusDriver(
            self.engine,
            self.store,
            self.journal,
            Checker(world.voters, world.network_id),
            OneAtATime(len(world.voters)),
            self.outbox,
            batch_interval_s=0,
        )
        self.frames = self.frame_bytes = 0

    def _send_frame(self, peer: int, frame: bytes, urgent: bool) -> None:
        self.frames += 1
        self.frame_bytes += len(frame)
        self.send_frame(peer, frame, urgent)

    def feed(self) -> None:
        """Keep statements waiting at the primary: one more for each that is executed.

        A pool takes no more than `MAX_WAITING` of a signer; what comes after a lost one never runs.
        """
        if self.engine.primary != self.spec.index:
            return
        self.driver.events.executed.append(lambda _, outcome: self._say())
        for _ in range(min(2 * self.spec.window + 2, MAX_WAITING)):
            self._say()

    def _say(self) -> None:
        world = self.world
        counter = world.last_counter(self.spec.index) + 1
        item = Observation(
            epoch=1, block=counter, block_hash=sha256(b"block"), snapshot_hash=sha256(b"snapshot")
        )
        self.driver.offer(world.statement(self.spec.index, item))

    def counts(self) -> Counts:
        return Counts(
            at_s=time.perf_counter(),
            cpu_s=time.process_time(),
            decisions=self.engine.height,
            messages=self.outbox.messages_sent,
            frames=self.frames,
            frame_bytes=self.frame_bytes,
        )

    async def measure(self) -> Measured:
        """Warm up, then measure."""
        sampler = Sampler()
        await trio.sleep(self.spec.warmup_s)
        if self.spec.profile:
            sampler.start()
        self.driver.latencies.decision_ms.clear()
        before = self.counts()
        await trio.sleep(self.spec.seconds)
        after = self.counts()
        sampler.stop()
        return Measured(
            before=before,
            after=after,
            decision_ms=list(self.driver.latencies.decision_ms),
            profile=sampler.report() if self.spec.profile else {},
        )

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[None]:
        """Run the transport, and enter the block once everybody is linked."""
        run = self._run_tcp if self.spec.transport == "tcp" else self._run_libp2p
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield
            nursery.cancel_scope.cancel()

    async def _run_tcp(self, task_status=trio.TASK_STATUS_IGNORED) -> None:
        links = TcpLinks(self.spec.index, self.spec.ports)
        self.send_frame = links.send_frame
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links.run, self.driver)
            await until(links.is_complete)
            task_status.started()

    async def _run_libp2p(self, task_status=trio.TASK_STATUS_IGNORED) -> None:
        spec, world = self.spec, self.world
        others = [index for index in range(len(spec.ports)) if index != spec.index]
        names = {index: peer_id_of(_seed(index)) for index in others}
        config = NetworkConfig(
            seed=_seed(spec.index),
            listen_host=HOST,
            listen_port=spec.ports[spec.index],
            bootstrap=tuple(
                f"/ip4/{HOST}/tcp/{spec.ports[index]}/p2p/{names[index]}" for index in others
            ),
        )
        async with open_network(config) as network:
            peers = Peers(world.voters, world.network_id)
            record = encode(world.node_record(spec.index, network.peer_id))
            links = ConsensusLinks(peers, record, frozenset(names.values()))
            self.send_frame = links.send_frame
            links.open(network, self.driver)
            await until(lambda: links.up() == len(others) and all(peers.peer_id(i) for i in others))
            task_status.started()
            await trio.sleep_forever()


class CountingWorld(World):
    """A world that knows which statement came last."""

    def last_counter(self, signer: int) -> int:
        return self._counters[signer]


def _seed(index: int) -> bytes:
    return sha256(b"libp2p", bytes([index]))


async def until(holds: Callable[[], bool]) -> None:
    """Look again and again: before the measurement it costs nothing that counts."""
    while not holds():  # noqa: ASYNC110 - the links have no event for it
        await trio.sleep(POLL_S)


async def main(spec: Spec) -> None:
    world = CountingWorld(
        (1,) * len(spec.ports),
        window=spec.window,
        term=FOREVER,
        view_limit_ms=FOREVER,
        base_timeout_ms=PATIENCE_MS,
    )
    node = BenchmarkNode(spec, world)
    async with node.linked(), trio.open_nursery() as nursery:
        show("ready")
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        nursery.start_soon(node.driver.run)
        node.feed()
        measured = await node.measure()
        show(msgspec.json.encode(measured).decode())
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    trio.run(main, msgspec.json.decode(sys.argv[1], type=Spec))
