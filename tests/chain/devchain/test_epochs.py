"""When an epoch runs: tempo, one asked for, the longest one, and never."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from chain.devchain.changes import with_pending_epoch, with_rule
from chain.devchain.epochs import (
    LONGEST_EPOCH_BLOCKS,
    current_epoch,
    epoch_is_due,
    next_epoch_block,
    stepped,
)
from chain.devchain.state import EpochClock, State
from tests.chain.devchain.support import genesis, ledger


def standing_at(**clock: int) -> State:
    return replace(genesis(tempo=10), epochs=EpochClock(**clock))


@pytest.mark.parametrize(
    ("clock", "block", "due"),
    [
        ({"last_block": 100}, 109, False),
        ({"last_block": 100}, 110, True),
        ({"last_block": 100, "pending_at": 103}, 102, False),
        ({"last_block": 100, "pending_at": 103}, 103, True),
        ({"last_block": 100, "blocks_since_step": LONGEST_EPOCH_BLOCKS}, 101, False),
        ({"last_block": 100, "blocks_since_step": LONGEST_EPOCH_BLOCKS + 1}, 101, True),
    ],
)
def test_an_epoch_is_due(clock, block, due):
    state = standing_at(**clock)
    assert epoch_is_due(state, block) is due
    assert current_epoch(state, block) == int(due)


def test_with_tempo_zero_none_ever_runs():
    state = with_rule(standing_at(blocks_since_step=LONGEST_EPOCH_BLOCKS + 1), "tempo", 0)
    assert not epoch_is_due(state, 10**6)
    assert next_epoch_block(state) is None


def test_an_epoch_resets_the_clock_and_nothing_else_moves():
    state = stepped(standing_at(index=4, last_block=100, blocks_since_step=9), 110)
    assert state.epochs == EpochClock(index=5, last_block=110)
    assert stepped(state, 111).epochs == EpochClock(index=5, last_block=110, blocks_since_step=1)


def test_the_forecast_follows_tempo_and_what_is_pending():
    state = standing_at(last_block=100)
    assert next_epoch_block(state) == 110
    assert next_epoch_block(with_pending_epoch(state, 104)) == 104
    assert next_epoch_block(with_rule(state, "tempo", 50)) == 150


def test_a_chain_runs_its_epochs_on_time():
    chain = ledger(tempo=3)
    chain.jump(10, 1)
    assert chain.head.state.epochs == EpochClock(index=3, last_block=9, blocks_since_step=1)
