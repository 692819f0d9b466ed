from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.codec import sha256
from protocol.identity import ConsensusKey
from protocol.records.consensus_key import SignedKey
from tests.support import World, replaced
from validator_node.discovery.book import AddressBook
from validator_node.key_relay import KeyRelay
from validator_node.speaker import Speaker
from validator_node.store import Store

FRESH, OTHER = ConsensusKey(sha256(b"fresh")), ConsensusKey(sha256(b"other"))


async def unsaid(_statement: object) -> None:
    raise AssertionError("the speaker does not run here")


class Site:
    """An observer's relay: what it would say waits in its speaker."""

    def __init__(self, world: World, store: Store) -> None:
        self.world, self.store = world, store
        self.sequence = 1
        self.book = AddressBook(
            world.network_id, sha256(b"own"), is_neuron=lambda _: True, now=lambda: 0.0
        )
        self.speaker = Speaker(
            world.voters, None, world.keys[0], say=unsaid, executed_counter=lambda: 0,
            is_settled=lambda _: False, clock_ms=lambda: 0, first_counter=1,
        )  # fmt: skip
        self.relay = KeyRelay(store, self.book, self.speaker)

    def tell(self, index: int, key: SignedKey | None) -> None:
        self.sequence += 1
        peer = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
        record = self.world.node_record(index, peer, sequence=self.sequence, key=key)
        self.book.take(record, peer)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    world = World()
    store = Store.open(tmp_path / "db", world.genesis, create=True)
    yield Site(world, store)
    store.close()


def test_a_new_key_is_told_until_the_state_has_it(site: Site) -> None:
    world = site.world
    binding = world.binding(world.hotkeys[1], FRESH)
    site.tell(0, None)
    site.tell(1, binding)
    assert site.relay.look() == site.relay.look() == [binding]
    world.decide(site.store, world.statement(0, binding))
    assert site.relay.look() == []
    assert site.relay.refused == {}


def test_what_the_state_would_not_take_is_not_told(site: Site) -> None:
    world = site.world
    site.tell(1, world.binding(world.hotkeys[1], world.keys[1]))
    site.tell(2, world.binding(world.hotkeys[3], FRESH))
    assert site.relay.look() == []


def test_a_forged_binding_is_counted_once_and_a_better_one_is_told(site: Site) -> None:
    world = site.world
    good = world.binding(world.hotkeys[1], FRESH, sequence=2)
    stolen = world.binding(world.hotkeys[1], OTHER)
    forged: Any = replaced(good, possession=stolen.possession)
    site.tell(1, forged)
    assert site.relay.look() == site.relay.look() == []
    assert site.relay.refused == {"bad_signature": 1}
    site.tell(1, good)
    assert site.relay.look() == [good]
