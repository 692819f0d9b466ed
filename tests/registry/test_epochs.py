from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.records.statement import Observation
from protocol.view import DictView
from registry import keys
from registry.access import current_epoch, read, write
from registry.epochs import close, fixed_edge, network_time, observe
from tests.support import START_MS, World, make_observation, replaced

WORLD = World()
FIRST = make_observation(1)
CLOCK_LIMIT = 2**63 - 1


def marked(world: World, clocks: dict[int, int], *, time_ms: int = 0, seq: int = 0) -> DictView:
    """Return a state in which each signer's last statement carried this clock."""
    view = world.state()
    write(view, keys.TIME, keys.Time(time_ms=time_ms, seq=seq))
    for signer, clock_ms in clocks.items():
        write(view, keys.MARK + keys.u16(signer), keys.Mark(counter=1, clock_ms=clock_ms))
    return view


# --- epochs --------------------------------------------------------------------------------------


def fixed_by(world: World, *spoken: tuple[int, Observation]) -> list[bool]:
    """Let signers state observations in turn; return whether the edge was fixed after each."""
    view = world.state()
    fixed = []
    for place, (signer, observation) in enumerate(spoken):
        assert observe(view, world.voters, 10 + place, signer, observation) is None
        fixed.append(fixed_edge(view) is not None)
    return fixed


def test_a_quorum_of_equal_observations_fixes_the_edge() -> None:
    view = WORLD.state()
    for signer in (0, 1):
        assert observe(view, WORLD.voters, 10, signer, FIRST) is None
        assert fixed_edge(view) is None
    assert observe(view, WORLD.voters, 11, 2, FIRST) is None
    assert fixed_edge(view) == keys.FixedEdge(seq=11, observation=FIRST)
    assert current_epoch(view) == 0


def test_the_edge_does_not_move_once_it_is_fixed() -> None:
    view = WORLD.state()
    for signer in range(3):
        observe(view, WORLD.voters, 10, signer, FIRST)
    before = dict(view.entries)
    for signer in range(4):
        late = make_observation(1, block=99)
        assert observe(view, WORLD.voters, 20, signer, late) == "edge_fixed"
    assert view.entries == before


def test_the_same_validator_counts_once() -> None:
    assert fixed_by(WORLD, *[(0, FIRST)] * 5) == [False] * 5


@pytest.mark.parametrize(
    "changes",
    [{"block": 21}, {"block_hash": bytes(32)}, {"snapshot_hash": bytes(32)}],
    ids=lambda changes: next(iter(changes)),
)
def test_only_equal_observations_count_together(changes: dict[str, Any]) -> None:
    different = replaced(FIRST, **changes)
    spoken = [(0, FIRST), (1, FIRST), (2, different), (3, FIRST)]
    assert fixed_by(WORLD, *spoken) == [False, False, False, True]


def test_a_validators_latest_observation_counts() -> None:
    other = make_observation(1, block=99)
    spoken = [(0, other), (1, other), (0, FIRST), (2, FIRST), (1, FIRST)]
    assert fixed_by(WORLD, *spoken) == [False] * 4 + [True]


def test_weight_decides_not_heads() -> None:
    world = World((5, 2, 1, 1))
    assert fixed_by(world, (1, FIRST), (2, FIRST), (3, FIRST)) == [False] * 3
    assert fixed_by(world, (0, FIRST), (1, FIRST)) == [False, True]
    assert fixed_by(World((4, 1, 1)), (0, FIRST), (1, FIRST)) == [False, True]


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_only_the_next_epoch_is_observed(epoch: int) -> None:
    view = WORLD.state()
    before = dict(view.entries)
    assert observe(view, WORLD.voters, 10, 0, make_observation(epoch)) == "other_epoch"
    assert view.entries == before


def test_closing_begins_the_next_epoch_and_forgets_what_belonged_to_the_last() -> None:
    view = marked(WORLD, dict.fromkeys(range(4), 1000))
    for signer in range(3):
        observe(view, WORLD.voters, 10, signer, FIRST)
    assert close(view, FIRST) == 0
    assert current_epoch(view) == 1
    assert fixed_edge(view) is None
    assert not list(view.items(keys.OBSERVED))
    assert not list(view.items(keys.MARK))
    assert observe(view, WORLD.voters, 20, 3, FIRST) == "other_epoch"
    second = make_observation(2)
    for signer in (3, 0, 1):
        assert fixed_edge(view) is None
        assert observe(view, WORLD.voters, 20, signer, second) is None
    assert fixed_edge(view) == keys.FixedEdge(seq=20, observation=second)


# --- network time --------------------------------------------------------------------------------


def test_time_starts_with_the_genesis() -> None:
    assert network_time(WORLD.state(), WORLD.voters, 1) == START_MS + 1


def test_time_is_the_weighted_median_of_the_clocks() -> None:
    world = World((1, 1, 1, 4))
    view = marked(world, {0: 10, 1: 20, 2: 30, 3: 40})
    assert network_time(view, world.voters, 1) == 40
    view = marked(WORLD, {0: 400, 1: 100, 2: 300, 3: 200})
    assert network_time(view, WORLD.voters, 1) == 200


def test_time_rises_by_at_least_a_millisecond_a_slot() -> None:
    view = marked(WORLD, {0: 10, 1: 10, 2: 10, 3: 10}, time_ms=500, seq=7)
    assert network_time(view, WORLD.voters, 8) == 501
    assert network_time(view, WORLD.voters, 10) == 503


@given(st.data())
def test_a_minority_cannot_move_the_time_beyond_honest_clocks(data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=7).map(tuple))
    world = World(weights)
    members = range(len(weights))
    faulty = data.draw(st.sets(st.sampled_from(members)))
    if 3 * world.voters.weight_of(faulty) >= world.voters.total:
        return
    honest = st.integers(1000, 2000)
    clocks = {
        signer: data.draw(st.integers(0, CLOCK_LIMIT) if signer in faulty else honest)
        for signer in members
        if signer in faulty or data.draw(st.booleans())
    }
    last = data.draw(st.integers(0, 3000))
    time_ms = network_time(marked(world, clocks, time_ms=last, seq=4), world.voters, 5)
    told = [clock for signer, clock in clocks.items() if signer not in faulty]
    assert last + 1 <= time_ms <= max([last + 1, *told])
    if len(told) == len(weights) - len(faulty):
        assert time_ms >= min(told)


def test_the_first_to_speak_does_not_set_the_time_alone() -> None:
    view = marked(WORLD, {2: CLOCK_LIMIT}, time_ms=500, seq=7)
    assert network_time(view, WORLD.voters, 8) == 501


def test_the_time_is_kept_with_its_slot() -> None:
    view = WORLD.state()
    assert read(view, keys.Time, keys.TIME) == keys.Time(time_ms=START_MS, seq=0)
