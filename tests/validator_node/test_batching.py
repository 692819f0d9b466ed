"""When the primary proposes the metagraph of the next epoch, and the owner's changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.codec import encode, sha256
from protocol.records.metagraph import EpochMetagraph
from registry import lifecycle
from tests.support import World, make_challenge, make_verdict, observation_of
from validator_node.batching import Batching
from validator_node.statements import StatementPool
from validator_node.store import Store

VERDICT = make_verdict(sha256(b"submission"))


class Site:
    """A primary whose engine has the next slot open."""

    def __init__(self, folder: Path) -> None:
        self.world = World(window=2)
        self.store = Store.open(folder / "db", self.world.genesis, create=True)
        self.pool = StatementPool(4)
        self.batching = Batching(self.store, self.pool, interval_s=0)
        self.in_flight: list = []

    def propose(self) -> Any:
        slot = self.store.height + 1 + len(self.in_flight)
        engine: Any = SimpleNamespace(
            open_slot=slot, in_flight=self.in_flight, height=self.store.height
        )
        return self.batching.propose(engine, 1.0)

    def observe(self, metagraph: EpochMetagraph, count: int = 3) -> None:
        observation = observation_of(metagraph)
        said = [self.world.statement(signer, observation) for signer in range(count)]
        self.world.decide(self.store, *said)
        self.batching.last_change = 0

    @property
    def has_work(self) -> bool:
        return self.batching.has_work(self.store.height)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.store.close()


def test_it_waits_for_a_quorum(site: Site) -> None:
    metagraph = site.batching.metagraph = site.world.metagraph(1)
    assert not site.has_work
    site.observe(metagraph, 2)
    assert not site.has_work
    assert site.propose() is None
    site.world.decide(site.store, site.world.statement(2, observation_of(metagraph)))
    assert site.has_work
    assert site.propose().actions == (metagraph,)


def test_another_metagraph_than_the_quorums_is_kept_back(site: Site) -> None:
    site.batching.metagraph = site.world.metagraph(1, owner=bytes(32))
    site.observe(site.world.metagraph(1))
    assert not site.has_work
    assert site.propose() is None


def test_it_is_proposed_once_and_forgotten_when_the_edge_is_fixed(site: Site) -> None:
    metagraph = site.batching.metagraph = site.world.metagraph(1)
    site.observe(metagraph)
    batch = site.propose()
    site.in_flight.append(batch)
    statement = site.world.statement(3, observation_of(metagraph))
    site.pool.add(statement)
    assert site.propose().actions == (statement,)
    site.in_flight.clear()
    assert site.propose().actions == (metagraph, statement)
    assert site.world.decide(site.store, metagraph).edge == site.store.height + 2
    assert site.propose().actions == (statement,)
    assert site.batching.metagraph is None


def test_what_waits_behind_a_gap_is_no_work(site: Site) -> None:
    """Nobody could order it, so it must not keep an idle network changing views."""
    site.pool.add(site.world.statement(0, VERDICT, counter=2))
    assert not site.has_work
    assert site.propose() is None
    site.pool.add(site.world.statement(0, VERDICT, counter=1))
    assert site.has_work
    assert len(site.propose().actions) == 2


def test_a_change_without_an_action_owes_its_root(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CANARY_SLOTS", 3)
    site.world.decide(site.store, site.world.change(1, make_challenge("gamma")))
    site.batching.note_executed(1)
    for seq in (2, 3):
        assert site.has_work
        site.world.decide(site.store)
        site.batching.note_executed(seq)
    assert site.batching.last_change == 1
    assert not site.has_work
    assert len(site.world.decide(site.store).decided) == 1
    site.batching.note_executed(4)
    assert site.batching.last_change == 4
    assert site.has_work
    assert site.propose().actions == ()
    assert Batching(site.store, site.pool).last_change == 4


def test_what_is_of_an_epoch_gone_by_is_forgotten(site: Site) -> None:
    site.batching.metagraph = site.world.metagraph(1)
    site.world.end_epoch(site.store)
    site.batching.last_change = 0
    assert not site.has_work
    assert site.batching.metagraph is None


def test_a_change_of_the_owner_goes_before_the_statements(site: Site) -> None:
    first, second = (site.world.change(n, make_challenge(f"c{n}")) for n in (1, 2))
    assert site.batching.changes.check(encode(first))
    assert site.has_work
    statement = site.world.statement(0, VERDICT)
    site.pool.add(statement)
    batch = site.propose()
    assert batch.actions == (first, statement)
    site.in_flight.append(batch)
    assert site.propose().actions == ()  # a root is owed, nothing waits
    assert site.batching.changes.check(encode(second))
    assert site.propose().actions == (second,)
    site.in_flight.clear()
    site.world.decide(site.store, *batch.actions)
    site.pool.execute(statement.header)
    site.batching.note_executed(1)
    assert site.propose().actions == (second,)


def test_a_change_behind_a_gap_is_no_work(site: Site) -> None:
    site.batching.changes.check(encode(site.world.change(2, make_challenge("gamma"))))
    assert len(site.batching.changes) == 1
    assert not site.has_work
    assert site.propose() is None


def test_a_metagraph_goes_first_and_alone(site: Site) -> None:
    change = site.world.change(1, make_challenge("gamma"))
    metagraph = site.batching.metagraph = site.world.metagraph(1)
    site.observe(metagraph)
    site.batching.changes.check(encode(change))
    batch = site.propose()
    assert batch.actions == (metagraph,)
    site.in_flight.append(batch)
    assert site.propose().actions == (change,)


def test_a_batch_whose_root_is_not_known_has_no_time_to_close(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time that has passed and leads to nothing would wake the driver for ever."""
    site.pool.add(site.world.statement(0, VERDICT))
    monkeypatch.setattr(site.store, "root_after", lambda _: None)
    site.batching.close_at = 0.5
    assert site.propose() is None
    assert site.batching.close_at is None
