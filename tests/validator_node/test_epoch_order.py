"""What is carried to the chain for a closed epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.records.weights import WeightEntry
from tests.support import replaced
from tests.validator_node.weight_site import TEMPO, Closed
from validator_node.epoch_order import epoch_order


async def test_each_uid_goes_with_its_holder(tmp_path: Path) -> None:
    site = Closed(tmp_path).site
    weights = site.store.weights(0)
    assert weights is not None
    order = epoch_order(site.store.tree.view(), weights)
    assert (order.epoch, order.since_block) == (0, TEMPO)
    assert order.vectors[0].vector == ((site.world.uid(0), 65535),)
    assert order.vectors[0].holders == (site.world.miners[0].public_key,)
    site.close()


async def test_a_uid_that_nobody_holds_is_a_fault_and_not_an_open_vector(tmp_path: Path) -> None:
    site = Closed(tmp_path).site
    weights = site.store.weights(0)
    assert weights is not None
    first, *others = weights.mechanisms
    strange = replaced(first, vector=(*first.vector, WeightEntry(uid=999, weight=1)))
    with pytest.raises(AssertionError, match=r"epoch 0, mechanism 0: nobody holds uids \[999\]"):
        epoch_order(site.store.tree.view(), replaced(weights, mechanisms=(strange, *others)))
    site.close()
