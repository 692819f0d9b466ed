"""When snapshots are frozen, written and offered."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codec import encode
from tests.support import World
from validator_node.store import Store
from validator_node.sync.serving import SyncServer
from validator_node.sync.snapshots import SnapshotKeeper


class Place:
    """A store that executes slots, and its keeper."""

    def __init__(self, folder: Path, *, interval: int = 4, every: int = 8) -> None:
        self.folder = folder
        self.world = World(checkpoint_interval=interval)
        self.every = every
        self.store = Store.open(folder / "db", self.world.genesis, create=True)
        self.keeper = SnapshotKeeper(self.store, folder, every=every)

    def decide_to(self, seq: int) -> None:
        while self.store.height < seq:
            self.world.decide(self.store)
            self.keeper.on_executed(self.store.height)

    async def settle(self) -> None:
        """Certify the state as it is, and write what that makes certain."""
        self.keeper.on_stable(self.world.certify(self.store))
        await self.keeper.write()

    def seqs(self) -> list[int]:
        return [offer.certificate.checkpoint.seq for offer in self.keeper.offers()]


@pytest.fixture
def place(tmp_path: Path):
    found = Place(tmp_path)
    yield found
    found.store.close()


async def test_a_snapshot_is_written_at_a_checkpoint_and_not_too_often(place: Place) -> None:
    place.decide_to(8)
    await place.settle()
    assert place.seqs() == [8]
    place.decide_to(12)  # a checkpoint, but too soon
    place.keeper.on_stable(place.world.certify(place.store))
    assert place.seqs() == [8]
    for seq in (16, 24):
        place.decide_to(seq)
        await place.settle()
    assert place.seqs() == [24, 16]  # the newest two are kept


async def test_the_state_is_that_of_the_checkpoint_whatever_came_after(place: Place) -> None:
    place.decide_to(8)
    certificate = place.world.certify(place.store)
    root = place.store.tree.root()
    for _ in range(2):
        place.world.decide(place.store, place.world.statement(0, place.world.signed()))
    assert place.store.tree.root() != root
    place.keeper.on_stable(certificate)
    await place.keeper.write()
    (manifest,) = place.keeper.folder.manifests()
    assert (manifest.seq, manifest.state_root) == (8, root)


async def test_what_a_quorum_did_not_certify_is_not_written(place: Place) -> None:
    place.decide_to(8)
    place.decide_to(9)
    place.keeper.on_stable(place.world.certify(place.store))  # a later one: 8 was passed over
    assert place.seqs() == []
    place.decide_to(12)
    await place.settle()
    assert place.seqs() == [12]


async def test_offers_survive_a_restart_with_their_proofs(place: Place) -> None:
    place.decide_to(8)
    await place.settle()
    again = SnapshotKeeper(place.store, place.folder, every=place.every)
    assert again.offers() == place.keeper.offers()
    offer = SyncServer(place.store, again.offers).offer()
    assert (offer.height, offer.first_held, offer.snapshots) == (8, 1, again.offers())
    manifest = again.blob(offer.snapshots[0].manifest)
    assert manifest == encode(again.folder.manifests()[0])
    chunk = again.folder.manifests()[0].chunks[0]
    assert again.blob(chunk.digest) is not None
    assert again.blob(bytes(32)) is None


async def test_a_snapshot_without_its_proof_is_not_offered(place: Place) -> None:
    place.decide_to(8)
    await place.settle()
    for path in (place.folder / "snapshot-proofs").iterdir():
        path.write_bytes(b"\xc1damaged")
    again = SnapshotKeeper(place.store, place.folder, every=place.every)
    assert again.offers() == ()


def test_replies_are_bounded_and_end_where_the_log_ends(place: Place) -> None:
    place.decide_to(300)
    server = SyncServer(place.store)
    reply = server.log(1)
    assert [slot.certificate.header.seq for slot in reply.slots] == list(range(1, 257))
    assert len(server.log(299).slots) == 2
    assert server.log(301).slots == ()
    assert server.handovers(0).handovers == ()
    place.world.end_epoch(place.store)
    edge = place.world.certify(place.store, edge=True)
    assert server.handovers(0).handovers == (edge,)
