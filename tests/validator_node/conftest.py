from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import World
from validator_node.store import Store


@pytest.fixture
def world() -> World:
    return World(window=2, dispute_after=5)


@pytest.fixture
def store(tmp_path: Path, world: World) -> Iterator[Store]:
    opened = Store.open(tmp_path / "db", world.genesis, create=True)
    yield opened
    opened.close()
