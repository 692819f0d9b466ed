from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.interface import EpochStatus
from chain.tempo import blocks_left, closed_epoch, epoch_status_at


@pytest.mark.parametrize(("block", "epoch"), [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2)])
def test_epochs_of_ten_blocks_by_hand(block: int, epoch: int):
    assert epoch_status_at(block, 10) == EpochStatus(epoch, epoch * 10, epoch * 10 + 10)


@given(st.integers(0, 10**9), st.integers(1, 10**5))
def test_every_block_is_within_its_epoch(block: int, tempo: int):
    status = epoch_status_at(block, tempo)
    assert status.first_block <= block < status.next_epoch_block
    assert 0 < blocks_left(status, block) <= tempo
    closed = closed_epoch(status)
    if closed is None:
        assert status.epoch == 0
    else:
        assert epoch_status_at(closed[1], tempo).epoch == closed[0] == status.epoch - 1


@pytest.mark.parametrize(("block", "tempo"), [(-1, 10), (0, 0)])
def test_impossible_figures_are_refused(block: int, tempo: int):
    with pytest.raises(ValueError, match=f"block {block}, tempo {tempo}"):
        epoch_status_at(block, tempo)
