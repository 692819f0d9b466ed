"""One honest source among many liars of every kind is enough, and only the liars pay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from storage.database import Database
from storage.state import StateTree
from tests.attacks.sync_liars import (
    DRIP_S,
    LOG_LIES,
    SNAPSHOT_LIES,
    Counterfeiter,
    Dripper,
    Framer,
    Liar,
    Truth,
)
from tests.support import World
from tests.validator_node.sync.following import Joiner, Server, config
from validator_node.errors import ResyncNeeded
from validator_node.network.network import Network, open_network
from validator_node.sync.claims import REACH
from validator_node.sync.download import install_prepared
from validator_node.sync.records import HandoverReply, LogReply, SyncOffer
from validator_node.sync.serving import SyncServer

LIARS = 20
MARGIN_S = 3.0
LIARS_DEADLINE_S = 300
Kind = Callable[[Truth, str], Liar]


class Local:
    """What is true, as a server beside the liar answers it."""

    def __init__(self, server: SyncServer) -> None:
        self._server = server

    async def offer(self) -> SyncOffer:
        return self._server.offer()

    async def handovers(self, first_epoch: int) -> HandoverReply:
        return self._server.handovers(first_epoch)

    async def log(self, first: int) -> LogReply:
        return self._server.log(first)


class Site:
    """An honest server, liars beside it, and the network of who joins."""

    def __init__(self, honest: Network, liars: list[tuple[Liar, Network]], joiner: Network) -> None:
        self.honest, self.liars, self.joiner = honest, liars, joiner
        self.charged: dict[str, float] = {}
        charge = joiner.charge

        def noted(peer_id: str, reason: str, cost: float | None = None) -> bool:
            self.charged[peer_id] = self.charged.get(peer_id, 0.0) + (cost or 1.0)
            return charge(peer_id, reason, cost)

        joiner.charge = noted  # type: ignore[method-assign]


@asynccontextmanager
async def site(server: Server, kinds: Sequence[Kind]) -> AsyncIterator[Site]:
    truth = Local(server.server)
    async with AsyncExitStack() as stack:
        honest = await stack.enter_async_context(server.online("honest"))
        liars = []
        for number, kind in enumerate(kinds):
            name = f"liar {number}"
            network = await stack.enter_async_context(open_network(config(name)))
            liar = kind(truth, name)
            liar.serve(network)
            liars.append((liar, network))
        addresses = [a for network in (honest, *(n for _, n in liars)) for a in network.addresses]
        joiner = await stack.enter_async_context(open_network(config("joiner", *addresses)))
        with trio.fail_after(60):
            await joiner.wait_connected(1 + len(kinds))
        yield Site(honest, liars, joiner)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOG_LIES)
@pytest.mark.parametrize("full_log", [False, True])
async def test_one_liar_of_a_kind_does_not_hold_the_log_up(
    tmp_path: Path, kind: Kind, full_log: bool
) -> None:
    world = World()
    server = Server(world, tmp_path / "server")
    server.decide(300)
    async with site(server, [kind]) as place:
        joiner = Joiner(world, tmp_path / "joiner", place.joiner, full_log=full_log)
        await joiner.follow(server.store.height)
        assert joiner.store.chain_hash == server.store.chain_hash
        assert place.honest.peer_id not in place.charged
        joiner.store.close()
    server.store.close()


async def test_a_claim_of_more_does_not_keep_back_what_is_decided_meanwhile(
    tmp_path: Path,
) -> None:
    world = World()
    server = Server(world, tmp_path / "server")
    server.decide(100)
    async with site(server, [Dripper]) as place:
        joiner = Joiner(world, tmp_path / "joiner", place.joiner)
        first, second = joiner.reaching(100), joiner.reaching(110)
        async with joiner.following():
            await first.wait()
            server.decide(10)
            began = trio.current_time()
            await second.wait()
            assert trio.current_time() - began < DRIP_S - MARGIN_S
        joiner.store.close()
    server.store.close()


@pytest.mark.parametrize("full_log", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_one_honest_source_of_the_log_among_twenty_liars_is_enough(
    tmp_path: Path, full_log: bool
) -> None:
    world = World()
    server = Server(world, tmp_path / "server")
    server.decide(100)
    server.end_epoch()
    server.decide(1000)
    kinds = [LOG_LIES[number % len(LOG_LIES)] for number in range(LIARS)]
    async with site(server, kinds) as place:
        joiner = Joiner(world, tmp_path / "joiner", place.joiner, full_log=full_log)
        await joiner.follow(server.store.height, LIARS_DEADLINE_S)
        assert joiner.store.chain_hash == server.store.chain_hash
        assert joiner.follower.highest <= server.store.height + REACH
        assert place.honest.peer_id not in place.charged
        joiner.store.close()
    server.store.close()


async def joined_by_snapshot(
    tmp_path: Path, kinds: Sequence[Kind], *, slots: int = 1100, full_log: bool = False
) -> Site:
    """Join from one honest server among liars; return who was charged for what.

    It is joined by the snapshot, or by the log where that had its turn first: both end synced.
    """
    world = World(checkpoint_interval=1)
    server = Server(world, tmp_path / "server")
    server.decide(slots)
    await server.snapshot()
    root = server.store.tree.root()
    server.decide(3)
    async with site(server, kinds) as place:
        if full_log:
            server.server.log = lambda _: LogReply(slots=())  # type: ignore[method-assign]
            offer = server.server.offer
            server.server.offer = lambda: _pruned(offer())  # type: ignore[method-assign]
        joiner = Joiner(world, tmp_path / "joiner", place.joiner, full_log=full_log)
        try:
            await joiner.follow(server.store.height, LIARS_DEADLINE_S)
        except* ResyncNeeded:
            joiner.store.close()
            assert install_prepared(joiner.folder)
            with Database.open(joiner.folder / "db") as database:
                assert StateTree(database).recompute() == root
        else:
            assert not full_log  # there the honest server has no log
            assert joiner.store.chain_hash == server.store.chain_hash
            joiner.store.close()
    server.store.close()
    return place


def _pruned(offer: SyncOffer) -> SyncOffer:
    return SyncOffer(
        height=offer.height,
        epoch=offer.epoch,
        first_held=offer.height + 1,
        snapshots=offer.snapshots,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNAPSHOT_LIES)
async def test_a_liar_about_a_snapshot_does_not_hold_it_up_and_pays_alone(
    tmp_path: Path, kind: Kind
) -> None:
    place = await joined_by_snapshot(tmp_path, [kind])
    assert place.honest.peer_id not in place.charged


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Framer, Counterfeiter])
async def test_liars_about_a_snapshot_do_not_frame_who_has_the_log_alone(
    tmp_path: Path, kind: Kind
) -> None:
    world = World(checkpoint_interval=1)
    server = Server(world, tmp_path / "server")
    server.decide(1100)
    await server.snapshot()
    async with site(server, [kind, kind]) as place:
        server.snapshots._offers.clear()  # the honest one has the log alone
        joiner = Joiner(world, tmp_path / "joiner", place.joiner)
        await joiner.follow(server.store.height, LIARS_DEADLINE_S)
        joiner.store.close()
    assert place.honest.peer_id not in place.charged
    server.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("full_log", [False, True])
async def test_one_honest_snapshot_among_twenty_liars_is_enough(
    tmp_path: Path, full_log: bool
) -> None:
    kinds = [SNAPSHOT_LIES[number % len(SNAPSHOT_LIES)] for number in range(LIARS)]
    place = await joined_by_snapshot(tmp_path, kinds, full_log=full_log)
    assert place.honest.peer_id not in place.charged
