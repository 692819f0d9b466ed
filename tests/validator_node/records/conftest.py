from __future__ import annotations

import pytest

from tests.support import World
from tests.validator_node.dht_support import Records


@pytest.fixture
def records(world: World) -> Records:
    return Records(world)
