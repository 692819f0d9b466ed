"""Nodes as far as the owner's changes go: state, pool, gossip and queries over a real network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import trio

from protocol.codec import digest_of, sha256
from protocol.records.canary import CanaryItem
from protocol.records.challenge import Challenge
from tests.support import World
from tests.validator_node.network.support import nodes
from validator_node.execution import Outcome
from validator_node.network.network import Network
from validator_node.owner.gossip import RegistryGossip
from validator_node.owner.pool import RegistryPool
from validator_node.owner.queries import RegistryQueries
from validator_node.store import Store


class Site:
    """One node; `world` decides its slots when the test says so."""

    def __init__(self, world: World, store: Store, network: Network) -> None:
        self.world = world
        self.store = store
        self.network = network
        self.pool = RegistryPool(store)
        self.gossip = RegistryGossip(network, store, self.pool, self._on_change)
        self.took = trio.Event()
        RegistryQueries(store, self.pool).serve(network)

    def _on_change(self) -> None:
        self.took.set()
        self.took = trio.Event()

    async def until_held(self, count: int) -> None:
        """Wait until the pool holds so many changes."""
        while len(self.pool) < count:
            await self.took.wait()

    def decide(self, *actions: object) -> Outcome:
        """Execute a slot with the change whose turn it is, or with these actions."""
        if not actions:
            change = self.pool.next_change([])
            actions = () if change is None else (change,)
        outcome = self.world.decide(self.store, *actions)  # type: ignore[arg-type]
        self.pool.on_executed()
        self.gossip.on_executed()
        return outcome

    def report(self, challenge: Challenge, failure: str = "", signers: int = 3) -> Outcome:
        """Let validators report on a candidate."""
        results = bytes(32) if failure else sha256(b"results")
        item = CanaryItem(challenge=digest_of(challenge), results=results, failure=failure)
        return self.decide(*(self.world.statement(signer, item) for signer in range(signers)))


@asynccontextmanager
async def sites(folder: Path, count: int) -> AsyncIterator[list[Site]]:
    """Run nodes with equal states whose gossip runs, each connected to every other."""
    async with AsyncExitStack() as stack:
        worlds = [World(window=2) for _ in range(count)]
        stores = [
            stack.enter_context(
                closing(Store.open(folder / f"db-{number}", world.genesis, create=True))
            )
            for number, world in enumerate(worlds)
        ]
        running = await stack.enter_async_context(nodes(count))  # closed before the stores
        made = [Site(*parts) for parts in zip(worlds, stores, running, strict=True)]
        async with trio.open_nursery() as nursery:
            for site in made:
                nursery.start_soon(site.gossip.run)
            yield made
            nursery.cancel_scope.cancel()
