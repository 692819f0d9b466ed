import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.records.statement import Observation
from protocol.view import DictView
from registry import keys
from registry.access import current_epoch, read, write
from registry.epochs import close, network_time, observe
from tests.support import START_MS, World, make_observation

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


def test_a_quorum_of_equal_observations_ends_the_epoch() -> None:
    view = WORLD.state()
    assert observe(view, WORLD.voters, 0, FIRST) is None
    assert observe(view, WORLD.voters, 1, FIRST) is None
    assert current_epoch(view) == 0
    assert observe(view, WORLD.voters, 2, FIRST) == FIRST


def test_the_same_validator_counts_once() -> None:
    view = WORLD.state()
    for _ in range(5):
        assert observe(view, WORLD.voters, 0, FIRST) is None


@pytest.mark.parametrize(
    "different",
    [
        Observation(
            epoch=1, block=21, block_hash=FIRST.block_hash, snapshot_hash=FIRST.snapshot_hash
        ),
        Observation(epoch=1, block=20, block_hash=bytes(32), snapshot_hash=FIRST.snapshot_hash),
        Observation(epoch=1, block=20, block_hash=FIRST.block_hash, snapshot_hash=bytes(32)),
    ],
    ids=["block", "block hash", "snapshot"],
)
def test_only_equal_observations_count_together(different: Observation) -> None:
    view = WORLD.state()
    for signer, observation in enumerate((FIRST, FIRST, different)):
        assert observe(view, WORLD.voters, signer, observation) is None
    assert observe(view, WORLD.voters, 3, FIRST) == FIRST


def test_a_validators_latest_observation_counts() -> None:
    view = WORLD.state()
    for signer in (0, 1):
        observe(view, WORLD.voters, signer, make_observation(1, block=99))
    assert observe(view, WORLD.voters, 0, FIRST) is None
    assert observe(view, WORLD.voters, 2, FIRST) is None
    assert observe(view, WORLD.voters, 1, FIRST) == FIRST


def test_weight_decides_not_heads() -> None:
    world = World((5, 2, 1, 1))
    view = world.state()
    for signer in (1, 2, 3):
        assert observe(view, world.voters, signer, FIRST) is None
    view = world.state()
    assert observe(view, world.voters, 0, FIRST) is None
    assert observe(view, world.voters, 1, FIRST) == FIRST


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_only_the_next_epoch_is_observed(epoch: int) -> None:
    view = WORLD.state()
    before = dict(view.entries)
    assert observe(view, WORLD.voters, 0, make_observation(epoch)) == "other_epoch"
    assert view.entries == before


def test_closing_begins_the_next_epoch_and_forgets_the_observations() -> None:
    view = WORLD.state()
    for signer in range(3):
        observe(view, WORLD.voters, signer, FIRST)
    assert close(view, FIRST) == 0
    assert current_epoch(view) == 1
    assert not list(view.items(keys.OBSERVED))
    assert observe(view, WORLD.voters, 3, FIRST) == "other_epoch"
    second = make_observation(2)
    assert observe(view, WORLD.voters, 3, second) is None
    assert observe(view, WORLD.voters, 0, second) is None
    assert observe(view, WORLD.voters, 1, second) == second


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
