"""Nodes to sync from and to, over real libp2p: stores with a decided log, and an empty one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from consensus.messages import DecidedSlot
from protocol.codec import sha256
from protocol.identity import verify_consensus
from protocol.records.batch import Batch
from tests.support import World, replaced
from validator_node.batch_check import Checker
from validator_node.blobs import BlobFetcher, BlobService, over
from validator_node.consensus_driver import ConsensusDriver
from validator_node.journal_bridge import ObserverJournal
from validator_node.network.network import Network, NetworkConfig, open_network
from validator_node.outbox import Outbox
from validator_node.replica import make_engine, statement_pool
from validator_node.store import Store
from validator_node.sync.download import Downloader
from validator_node.sync.follower import Follower
from validator_node.sync.serving import SyncServer
from validator_node.sync.snapshots import SnapshotKeeper
from validator_node.sync.trust import SetChain, TrustedCheckpoint

DEADLINE_S = 60


def config(name: str, *bootstrap: str) -> NetworkConfig:
    return NetworkConfig(
        seed=sha256(name.encode()), listen_host="127.0.0.1", listen_port=0, bootstrap=bootstrap
    )


class Server:
    """A node that others sync from: its store is filled by the test."""

    def __init__(self, world: World, folder: Path, *, every: int = 1) -> None:
        folder.mkdir()
        self.world = world
        self.store = Store.open(folder / "db", world.genesis, create=True)
        self.snapshots = SnapshotKeeper(self.store, folder, every=every)
        self.server = SyncServer(self.store, self.snapshots.offers)
        self.blobs = BlobService([self.snapshots.blob])

    def decide(self, count: int) -> None:
        for _ in range(count):
            self.world.decide(self.store)
        self.store.flush()

    def end_epoch(self) -> None:
        self.world.end_epoch(self.store)
        self.world.certify(self.store, edge=True)
        self.store.flush()

    async def snapshot(self) -> None:
        """Make a snapshot of the state as it is, as a running node does at a checkpoint."""
        self.snapshots.on_executed(self.store.height)
        self.snapshots.on_stable(self.world.certify(self.store))
        self.store.flush()
        await self.snapshots.write()

    def forge_snapshot(self) -> None:
        """Offer, under the true certificates, chunks of a state that nobody certified."""
        (true,) = self.snapshots.offers()
        checkpoint = true.certificate.checkpoint
        rows = [*self.store.tree.items(), (b"zzz", b"a balance of mine")]
        manifest = self.snapshots.folder.write(
            rows, checkpoint.seq, checkpoint.state_root, cancelled=lambda: False
        )
        forged = replaced(true, manifest=manifest.digest, size=manifest.size)
        self.server = SyncServer(self.store, lambda: (forged,))

    @asynccontextmanager
    async def online(self, name: str) -> AsyncIterator[Network]:
        async with open_network(config(name)) as network:
            self.server.serve(network)
            self.blobs.serve(network)
            yield network


class Joiner:
    """A node with an empty folder and no journal: it observes."""

    def __init__(
        self,
        world: World,
        folder: Path,
        network: Network,
        trusted: TrustedCheckpoint | None = None,
        **options: Any,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.network = network
        self.store = Store.open(folder / "db", world.genesis, create=True)
        journal = ObserverJournal()
        engine = make_engine(self.store, journal, world.keys[0])
        voters = engine.core.voters
        self.driver = ConsensusDriver(
            engine,
            self.store,
            journal,
            Checker(voters, world.network_id),
            statement_pool(self.store, voters),
            Outbox(len(voters), None, lambda *_: None),
        )
        self.liars: list[str] = []
        self.follower = Follower(
            self.store,
            self.driver,
            network,
            Downloader(folder, world.genesis, BlobFetcher(over(network))),
            SetChain(world.genesis, verify_consensus, trusted),
            verify_consensus,
            is_linked=lambda: False,
            **options,
        )

    @asynccontextmanager
    async def following(self, deadline_s: float = DEADLINE_S) -> AsyncIterator[None]:
        """Follow until the block ends, in time."""
        with trio.fail_after(deadline_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.driver.run)
                nursery.start_soon(self.follower.run)
                yield
                nursery.cancel_scope.cancel()
        self.store.flush()

    def reaching(self, height: int) -> trio.Event:
        """Return an event that is set when `height` is executed."""
        reached = trio.Event()
        self.driver.events.executed.append(
            lambda header, _: reached.set() if header.seq >= height else None
        )
        return reached

    async def follow(self, height: int, deadline_s: float = DEADLINE_S) -> None:
        """Follow until `height` is executed; `ResyncNeeded` comes through."""
        if self.store.height >= height:
            return
        reached = self.reaching(height)
        async with self.following(deadline_s):
            await reached.wait()


class Liar(SyncServer):
    """Serves a log whose batches are not the ones that were decided."""

    def log(self, first: int):
        reply = super().log(first)
        slots = tuple(
            DecidedSlot(
                batch=Batch(state_root=sha256(b"lie"), actions=()), certificate=slot.certificate
            )
            for slot in reply.slots
        )
        return type(reply)(slots=slots)
