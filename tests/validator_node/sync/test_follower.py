"""Coming to the others' height over real libp2p: by the log, by a snapshot, past liars."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from protocol.records.checkpoint import CheckpointCertificate
from storage.database import Column, Database, WriteBatch
from storage.state import StateTree
from tests.support import World
from tests.validator_node.sync.following import DEADLINE_S, Joiner, Liar, Server, config
from validator_node.errors import ResyncNeeded
from validator_node.network.network import open_network
from validator_node.store import Store
from validator_node.sync.download import install_prepared
from validator_node.sync.trust import TrustedCheckpoint


async def test_a_new_node_reads_the_log_across_epochs(tmp_path: Path) -> None:
    world = World()
    server = Server(world, tmp_path / "server")
    server.decide(3)
    server.end_epoch()
    server.decide(300)
    server.end_epoch()
    server.decide(2)
    async with (
        server.online("server") as source,
        open_network(config("joiner", *source.addresses)) as network,
    ):
        joiner = Joiner(world, tmp_path / "joiner", network)
        await joiner.follow(server.store.height)
        assert joiner.store.chain_hash == server.store.chain_hash
        assert joiner.store.tree.root() == server.store.tree.root()
        assert joiner.store.epoch == 2
        assert joiner.driver.engine.core.voters.epoch == 2
        joiner.store.close()
    server.store.close()


async def test_a_liar_is_charged_and_another_peer_asked(tmp_path: Path) -> None:
    world = World()
    honest, liar = Server(world, tmp_path / "honest"), Server(world, tmp_path / "liar")
    for server in (honest, liar):
        server.decide(20)
    liar.decide(5)  # it claims to be ahead
    liar.server = Liar(liar.store)
    async with (
        honest.online("honest") as source,
        liar.online("liar") as lying,
        open_network(config("joiner", *source.addresses, *lying.addresses)) as network,
    ):
        joiner = Joiner(world, tmp_path / "joiner", network)
        await network.wait_connected(2)
        charged: dict[str, trio.Event] = {lying.peer_id: trio.Event()}
        network.charge = lambda peer_id, *_: charged[peer_id].set()
        reached = joiner.reaching(honest.store.height)
        async with joiner.following():
            await reached.wait()
            await charged[lying.peer_id].wait()
        assert joiner.store.chain_hash == honest.store.chain_hash
        joiner.store.close()
    for server in (honest, liar):
        server.store.close()


async def test_peers_that_lie_behind_the_certified_checkpoint_are_reported(
    tmp_path: Path,
) -> None:
    world = World()
    behind, ahead = Server(world, tmp_path / "behind"), Server(world, tmp_path / "ahead")
    behind.decide(5)
    ahead.decide(9)
    newest = world.certify(ahead.store)

    async def look_up() -> CheckpointCertificate:
        return newest

    async with (
        behind.online("behind") as source,
        open_network(config("joiner", *source.addresses)) as network,
    ):
        joiner = Joiner(world, tmp_path / "joiner", network, newest=look_up)
        await joiner.follow(5)
        assert joiner.follower.counts["peers_behind"] == 1
        joiner.store.close()
    for server in (behind, ahead):
        server.store.close()


async def join_by_snapshot(
    world: World, folder: Path, server: Server, trusted: TrustedCheckpoint | None = None
) -> Store:
    async with (
        server.online("server") as source,
        open_network(config("joiner", *source.addresses)) as network,
    ):
        joiner = Joiner(world, folder, network, trusted)
        with pytest.raises(ExceptionGroup) as caught:
            await joiner.follow(server.store.height)
        assert caught.group_contains(ResyncNeeded)
        joiner.store.close()
        assert install_prepared(folder)
        again = Joiner(world, folder, network, trusted)
        seq = server.snapshots.offers()[0].certificate.checkpoint.seq
        assert again.store.height == seq
        await again.follow(server.store.height)
        return again.store


async def test_a_new_node_joins_by_snapshot_and_goes_on_by_the_log(tmp_path: Path) -> None:
    world = World(checkpoint_interval=1)
    server = Server(world, tmp_path / "server")
    server.decide(2)
    server.end_epoch()
    server.decide(1100)
    await server.snapshot()
    server.decide(5)
    store = await join_by_snapshot(world, tmp_path / "joiner", server)
    assert store.chain_hash == server.store.chain_hash
    assert store.tree.root() == server.store.tree.recompute()
    assert store.batch_at(1) is None  # the log before the snapshot was never fetched
    assert not (tmp_path / "joiner" / "sync").exists()
    store.close()
    server.store.close()


async def test_chunks_that_do_not_lead_to_the_certified_root_are_refused(tmp_path: Path) -> None:
    """Two liars outnumber the honest peer with a manifest of their own."""
    world = World(checkpoint_interval=1)
    servers = [Server(world, tmp_path / name) for name in ("first", "second", "honest")]
    for server in servers:
        server.decide(1100)
        await server.snapshot()
        if server is not servers[-1]:
            server.forge_snapshot()
    async with (
        servers[0].online("first") as first,
        servers[1].online("second") as second,
        servers[2].online("honest") as honest,
        open_network(
            config("joiner", *first.addresses, *second.addresses, *honest.addresses)
        ) as network,
    ):
        joiner = Joiner(world, tmp_path / "joiner", network)
        await network.wait_connected(3)
        with pytest.raises(ExceptionGroup) as caught:
            await joiner.follow(servers[-1].store.height + 1)
        assert caught.group_contains(ResyncNeeded)
        assert joiner.follower.counts["snapshots_refused"] == 1
        assert joiner.follower.counts["lies"] == 2
        joiner.store.close()
    assert install_prepared(tmp_path / "joiner")
    with Database.open(tmp_path / "joiner" / "db", create=True) as database:
        assert StateTree(database).recompute() == servers[-1].store.tree.root()
    for server in servers:
        server.store.close()


async def test_another_history_than_the_trusted_one_is_not_followed(tmp_path: Path) -> None:
    world = World(checkpoint_interval=1)
    server = Server(world, tmp_path / "server")
    server.end_epoch()
    server.decide(1100)
    await server.snapshot()
    edge = server.store.edge_checkpoint(0)
    assert edge is not None
    async with (
        server.online("server") as source,
        open_network(config("joiner", *source.addresses)) as network,
    ):
        other = TrustedCheckpoint(0, bytes(32))
        joiner = Joiner(world, tmp_path / "joiner", network, other)
        charged = trio.Event()
        network.charge = lambda *_: charged.set()
        async with joiner.following():
            await charged.wait()
        assert joiner.store.epoch == 0  # the log up to the edge may be read, nothing beyond it
        joiner.store.close()
    trusted = TrustedCheckpoint(0, edge.checkpoint.digest)
    store = await join_by_snapshot(world, tmp_path / "trusting", server, trusted)
    store.close()
    server.store.close()


async def test_a_disk_without_room_is_nobody_elses_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(checkpoint_interval=1)
    server = Server(world, tmp_path / "server")
    server.decide(1100)
    await server.snapshot()
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr("validator_node.sync.download.shutil.disk_usage", lambda _: full)
    async with (
        server.online("server") as source,
        open_network(config("joiner", *source.addresses)) as network,
    ):
        joiner = Joiner(world, tmp_path / "joiner", network)
        with trio.fail_after(DEADLINE_S):
            await network.wait_connected(1)
            await joiner.follower._look()
        assert joiner.follower.counts == {"snapshots_failed": 1}
        assert network.score(source.peer_id) == 0
        joiner.store.close()
    server.store.close()


def test_a_crash_at_any_point_of_the_installation_leaves_one_whole_database(tmp_path: Path) -> None:
    def make(name: str, mark: bytes) -> None:
        with Database.open(tmp_path / name, create=True) as database:
            batch = WriteBatch()
            batch.put(Column.LOCAL, mark, mark)
            database.write(batch)

    assert not install_prepared(tmp_path)
    make("db.replaced", b"old")  # the old one was moved away and nothing came into its place
    assert not install_prepared(tmp_path)
    assert (tmp_path / "db").exists()
    make("db.prepared", b"new")
    make("db.replaced", b"older")
    assert install_prepared(tmp_path)
    with Database.open(tmp_path / "db", create=True) as database:
        rows = dict(database.iterate(Column.LOCAL))
    assert rows == {b"old": b"old", b"new": b"new"}  # what the node remembers is carried over
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db"]
