from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.inputs import Edge
from protocol.codec import decode
from protocol.records.genesis import Neuron
from protocol.records.metagraph import EpochMetagraph
from protocol.records.statement import Observation
from protocol.view import DictView
from registry import keys
from registry.access import current_epoch, neuron, read, write
from registry.catalog import apply_registry_change
from registry.epochs import agreed, close, edge_at, fix_edge, fixed_edge, network_time, observe
from tests.support import (
    OWNER,
    START_MS,
    STRANGER,
    World,
    make_challenge,
    make_observation,
    observation_of,
    replaced,
)

WORLD = World()
METAGRAPH = WORLD.metagraph(1)
FIRST = observation_of(METAGRAPH)
CLOCK_LIMIT = 2**63 - 1


def marked(world: World, clocks: dict[int, int], *, time_ms: int = 0, seq: int = 0) -> DictView:
    """Return a state in which each signer's last statement carried this clock."""
    view = world.state()
    write(view, keys.TIME, keys.Time(time_ms=time_ms, seq=seq))
    for signer, clock_ms in clocks.items():
        write(view, keys.MARK + keys.u16(signer), keys.Mark(counter=1, clock_ms=clock_ms))
    return view


# --- epochs --------------------------------------------------------------------------------------


def agreed_after(world: World, *spoken: tuple[int, Observation]) -> list[bool]:
    """Let signers state observations in turn; return whether a quorum agreed after each."""
    view = world.state()
    found = []
    for signer, observation in spoken:
        assert observe(view, signer, observation) is None
        found.append(agreed(view, world.voters) is not None)
    return found


def observed(world: World, metagraph: EpochMetagraph, signers: Iterable[int] = range(3)):
    """Return a state in which these signers have seen a metagraph."""
    view = world.state()
    for signer in signers:
        assert observe(view, signer, observation_of(metagraph)) is None
    return view


def test_a_quorum_and_the_metagraph_it_has_seen_fix_the_edge() -> None:
    view = WORLD.state()
    for signer in (0, 1):
        assert observe(view, signer, FIRST) is None
        assert fix_edge(view, WORLD.voters, 10, METAGRAPH) == "not_agreed"
    assert observe(view, 2, FIRST) is None
    assert fixed_edge(view) is None
    assert agreed(view, WORLD.voters) == FIRST
    assert fix_edge(view, WORLD.voters, 11, METAGRAPH) is None
    next_set = WORLD.genesis.validators.for_epoch(1)
    expected = keys.FixedEdge(seq=11, observation=FIRST, next_set=next_set, reason="")
    assert fixed_edge(view) == expected
    assert edge_at(view, 8) == Edge(11, next_set)
    assert current_epoch(view) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"block": 21},
        {"block_hash": bytes(32)},
        {"owner": bytes(32)},
        {"neurons": METAGRAPH.neurons[1:]},
        {"rules": replaced(METAGRAPH.rules, mechanisms=2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_metagraph_that_the_quorum_has_not_seen_changes_nothing(changes: dict[str, Any]) -> None:
    view = observed(WORLD, METAGRAPH)
    before = dict(view.entries)
    other = replaced(METAGRAPH, **changes)
    assert fix_edge(view, WORLD.voters, 10, other) == "other_metagraph"
    assert view.entries == before


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_a_metagraph_of_another_epoch_changes_nothing(epoch: int) -> None:
    view = observed(WORLD, METAGRAPH)
    other = replaced(METAGRAPH, epoch=epoch)
    assert fix_edge(view, WORLD.voters, 10, other) == "other_epoch"
    assert fixed_edge(view) is None


def test_the_edge_does_not_move_once_it_is_fixed() -> None:
    view = observed(WORLD, METAGRAPH)
    assert fix_edge(view, WORLD.voters, 10, METAGRAPH) is None
    before = dict(view.entries)
    for signer in range(4):
        assert observe(view, signer, make_observation(1, block=99)) == "edge_fixed"
    assert fix_edge(view, WORLD.voters, 20, METAGRAPH) == "edge_fixed"
    assert view.entries == before


def test_the_same_validator_counts_once() -> None:
    assert agreed_after(WORLD, *[(0, FIRST)] * 5) == [False] * 5


@pytest.mark.parametrize(
    "changes",
    [{"block": 21}, {"block_hash": bytes(32)}, {"snapshot_hash": bytes(32)}],
    ids=lambda changes: next(iter(changes)),
)
def test_only_equal_observations_count_together(changes: dict[str, Any]) -> None:
    different = replaced(FIRST, **changes)
    spoken = [(0, FIRST), (1, FIRST), (2, different), (3, FIRST)]
    assert agreed_after(WORLD, *spoken) == [False, False, False, True]


def test_a_validators_latest_observation_counts() -> None:
    other = make_observation(1, block=99)
    spoken = [(0, other), (1, other), (0, FIRST), (2, FIRST), (1, FIRST)]
    assert agreed_after(WORLD, *spoken) == [False] * 4 + [True]
    unsaid = [(0, FIRST), (1, FIRST), (2, FIRST), (1, other)]
    assert agreed_after(WORLD, *unsaid) == [False, False, True, False]


def test_weight_decides_not_heads() -> None:
    world = World((5, 2, 1, 1))
    assert agreed_after(world, (1, FIRST), (2, FIRST), (3, FIRST)) == [False] * 3
    assert agreed_after(world, (0, FIRST), (1, FIRST)) == [False, True]
    assert agreed_after(World((4, 1, 1)), (0, FIRST), (1, FIRST)) == [False, True]


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_only_the_next_epoch_is_observed(epoch: int) -> None:
    view = WORLD.state()
    before = dict(view.entries)
    assert observe(view, 0, make_observation(epoch)) == "other_epoch"
    assert view.entries == before


def closed(view: DictView, world: World, metagraph: EpochMetagraph) -> None:
    assert fix_edge(view, world.voters, 10, metagraph) is None
    fixed = fixed_edge(view)
    assert fixed is not None
    assert close(view, fixed) == metagraph


def test_closing_begins_the_next_epoch_and_forgets_what_belonged_to_the_last() -> None:
    view = marked(WORLD, dict.fromkeys(range(4), 1000))
    for signer in range(3):
        observe(view, signer, FIRST)
    closed(view, WORLD, METAGRAPH)
    assert current_epoch(view) == 1
    assert fixed_edge(view) is None
    assert view.get(keys.METAGRAPH) is None
    assert not list(view.items(keys.OBSERVED))
    assert not list(view.items(keys.MARK))
    assert observe(view, 3, FIRST) == "other_epoch"
    second = WORLD.metagraph(2)
    for signer in (3, 0, 1):
        assert fix_edge(view, WORLD.voters, 20, second) == "not_agreed"
        assert observe(view, signer, observation_of(second)) is None
    assert fix_edge(view, WORLD.voters, 20, second) is None


def test_the_edge_is_known_in_its_own_slot_and_not_after_it() -> None:
    view = observed(WORLD, METAGRAPH)
    closed(view, WORLD, METAGRAPH)
    assert edge_at(view, 10) == Edge(10, WORLD.genesis.validators.for_epoch(1))
    assert edge_at(view, 9) is edge_at(view, 11) is edge_at(WORLD.state(), 0) is None


def test_an_epoch_that_begins_above_slot_1_has_its_edge_and_that_of_the_genesis_none() -> None:
    view = WORLD.state()
    second = WORLD.genesis.validators.for_epoch(1)
    for since, edge in ((0, None), (1, Edge(1, second))):
        write(view, keys.VOTERS, keys.Electorate(voters=second, since=since, reason=""))
        assert edge_at(view, since) == edge


def test_the_neurons_are_those_of_the_metagraph() -> None:
    first, *others = METAGRAPH.neurons
    moved = replaced(others[-1], uid=99)
    newcomer = replaced(first, hotkey=STRANGER.public_key)
    metagraph = WORLD.metagraph(1, neurons=(newcomer, *others[:-1], moved))
    view = observed(WORLD, metagraph)
    closed(view, WORLD, metagraph)
    held = [decode(Neuron, data) for _, data in view.items(keys.NEURON)]
    assert sorted(held, key=lambda one: one.uid) == list(metagraph.neurons)
    assert neuron(view, first.hotkey) is None


@pytest.mark.parametrize(("told", "owner"), [(None, OWNER), (STRANGER.public_key, STRANGER)])
def test_the_owner_is_the_chains_and_the_sequence_goes_on(told: bytes | None, owner: Any) -> None:
    metagraph = WORLD.metagraph(1, owner=told)
    view = observed(WORLD, metagraph)
    assert apply_registry_change(view, WORLD.change(1, make_challenge("gamma")), 1) is None
    closed(view, WORLD, metagraph)
    mark = keys.RegistryMark(owner=owner.public_key, sequence=1)
    assert read(view, keys.RegistryMark, keys.REGISTRY) == mark
    change = WORLD.change(2, make_challenge("delta"), owner=owner)
    assert apply_registry_change(view, change, 1) is None


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
