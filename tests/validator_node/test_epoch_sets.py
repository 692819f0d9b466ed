"""Which slots a store lets the set of each epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import World
from validator_node.store import Store

WORLD = World((1, 1, 1, 1))
SET = WORLD.genesis.validators


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "db", WORLD.genesis, create=True)
    yield store
    store.close()


def span(store: Store, epoch: int) -> tuple[int, int | None]:
    voters = store.voters_of(epoch)
    assert voters.epoch == epoch
    return voters.after, voters.until


def test_the_first_epoch_begins_with_the_first_slot(store: Store) -> None:
    assert span(store, 0) == (0, None)


def test_an_epoch_unknown_here_decides_nothing(store: Store) -> None:
    assert span(store, 7) == (0, 0)


def test_edge_checkpoints_bound_the_epochs(store: Store) -> None:
    for epoch in (1, 2):
        store.put_stable(WORLD.handover(SET.for_epoch(epoch)))  # at slots 10 and 20
    assert span(store, 0) == (0, 10)
    assert span(store, 1) == (10, 20)
    assert span(store, 2) == (20, None)
