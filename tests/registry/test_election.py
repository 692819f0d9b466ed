from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import sha256
from protocol.errors import SignatureError
from protocol.identity import ConsensusKey, Hotkey
from protocol.records.consensus_key import SignedKey
from protocol.records.genesis import ElectionRules
from protocol.records.metagraph import EpochMetagraph
from protocol.view import DictView
from registry import keys
from registry.access import write
from registry.election import (
    TOO_FEW,
    bind_key,
    consensus_key,
    elect,
    electorate,
    why_not_bound,
)
from tests.support import STRANGER, World, replaced

WORLD = World((40, 30, 20, 10))
FRESH = ConsensusKey(sha256(b"fresh"))


def bound(
    hotkey: Hotkey, key: ConsensusKey = FRESH, *, sequence: int = 1, world: World = WORLD
) -> SignedKey:
    return world.binding(hotkey, key, sequence=sequence)


def metagraph(world: World = WORLD, **by_uid: dict[str, Any]) -> EpochMetagraph:
    """Return the next epoch's metagraph; `u3={...}` changes the neuron of uid 3."""
    neurons = [replaced(n, **by_uid.get(f"u{n.uid}", {})) for n in world.genesis.neurons]
    return world.metagraph(1, neurons=tuple(neurons))


def ruled(**rules: int) -> DictView:
    view = WORLD.state()
    write(view, keys.ELECTION, ElectionRules(**rules))
    return view


def elected(view: DictView, graph: EpochMetagraph) -> list[tuple[int, int]]:
    """Return (uid, weight) of the elected, in order."""
    chosen, reason = elect(view, graph)
    assert reason == ""
    assert chosen.epoch == graph.epoch
    uid_of = {neuron.hotkey: neuron.uid for neuron in graph.neurons}
    for member in chosen.members:
        assert member.consensus_key == consensus_key(view, member.hotkey)
    return [(uid_of[member.hotkey], member.weight) for member in chosen.members]


# --- who is elected ------------------------------------------------------------------------------


def test_the_genesis_elects_its_own_validators() -> None:
    view = WORLD.state()
    assert elect(view, WORLD.metagraph(1)) == (WORLD.genesis.validators.for_epoch(1), "")
    known = electorate(view)
    assert known == keys.Electorate(voters=WORLD.genesis.validators, since=0, reason="")


def test_stake_moves_the_weight() -> None:
    assert elected(WORLD.state(), metagraph(u0={"stake": 5}, u3={"stake": 70})) == [
        (0, 5), (1, 30), (2, 20), (3, 70),
    ]  # fmt: skip


def test_who_has_no_permit_or_no_stake_leaves() -> None:
    graph = metagraph(u1={"validator_permit": False}, u2={"stake": 0})
    assert elected(WORLD.state(), graph) == [(0, 40), (3, 10)]


def test_who_is_deregistered_leaves_and_its_uid_is_not_inherited() -> None:
    graph = metagraph(u1={"hotkey": STRANGER.public_key})
    assert elected(WORLD.state(), graph) == [(0, 40), (2, 20), (3, 10)]


def test_the_minimum_stake_is_the_genesis() -> None:
    assert elected(ruled(min_stake=20), metagraph()) == [(0, 40), (1, 30), (2, 20)]


def test_without_a_minimum_one_rao_is_enough_and_none_is_not() -> None:
    graph = metagraph(u2={"stake": 0}, u3={"stake": 1})
    assert elected(ruled(min_stake=0), graph) == [(0, 40), (1, 30), (3, 1)]


def test_the_highest_stakes_are_taken_and_of_equal_ones_the_lower_uid() -> None:
    graph = metagraph(u0={"stake": 10}, u1={"stake": 10}, u2={"stake": 11})
    assert elected(ruled(max_members=2), graph) == [(0, 10), (2, 11)]


def test_with_too_few_candidates_the_same_set_goes_on_and_says_why() -> None:
    graph = metagraph(u0={"stake": 0}, u1={"stake": 99})
    same = WORLD.genesis.validators.for_epoch(1)
    assert elect(ruled(min_members=4), graph) == (same, TOO_FEW)
    assert elect(ruled(min_stake=1000), graph) == (same, TOO_FEW)
    assert elected(ruled(min_members=3), graph) == [(1, 99), (2, 20), (3, 10)]


def test_no_validator_weighs_more_than_the_cap() -> None:
    """The others have 60, so 40 % is c with 1000 c <= 400 (c + 60): c = 40.

    With a stake of 900 that would take away more than half of the 960: 420 + 60 remain.
    """
    assert elected(ruled(stake_cap_permille=400), metagraph(u0={"stake": 900})) == [
        (0, 420), (1, 30), (2, 20), (3, 10),
    ]  # fmt: skip
    assert elected(ruled(stake_cap_permille=400), metagraph(u0={"stake": 60})) == [
        (0, 40), (1, 30), (2, 20), (3, 10),
    ]  # fmt: skip


@given(
    st.lists(st.integers(0, 2**62), min_size=4, max_size=4),
    st.integers(1, 1000),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_every_election_gives_a_set_in_order(
    stakes: list[int], permille: int, low: int, high: int
) -> None:
    view = ruled(stake_cap_permille=permille, min_members=low, max_members=high)
    graph = metagraph(**{f"u{uid}": {"stake": stake} for uid, stake in enumerate(stakes)})
    chosen, reason = elect(view, graph)
    candidates = [stake for stake in stakes if stake > 0]
    assert (reason == TOO_FEW) == (len(candidates) < low)
    if reason:
        return
    assert len(chosen.members) == min(high, len(candidates))
    order = [WORLD.hotkeys.index(hotkey) for hotkey in _hotkeys(chosen)]
    assert order == sorted(order)
    taken = [stakes[uid] for uid in order]
    assert sorted(taken) == sorted(candidates)[-len(taken) :]
    assert all(m.weight <= stake for m, stake in zip(chosen.members, taken, strict=True))
    assert 2 * sum(m.weight for m in chosen.members) >= sum(taken)


def _hotkeys(chosen: Any) -> list[Hotkey]:
    by_key = {hotkey.public_key: hotkey for hotkey in WORLD.hotkeys}
    return [by_key[member.hotkey] for member in chosen.members]


# --- consensus keys ------------------------------------------------------------------------------


def test_a_hotkey_without_a_key_is_elected_once_it_has_bound_one() -> None:
    view = WORLD.state()
    uid = WORLD.uid(0)
    graph = metagraph(**{f"u{uid}": {"stake": 25}})
    assert len(elected(view, graph)) == 4
    assert bind_key(view, bound(WORLD.miners[0])) is None
    assert elected(view, graph)[-1] == (uid, 25)


def test_a_new_key_counts_from_the_next_election_on() -> None:
    view = WORLD.state()
    assert bind_key(view, bound(WORLD.hotkeys[1])) is None
    chosen, _ = elect(view, WORLD.metagraph(1))
    assert chosen.members[1].consensus_key == FRESH.public_key
    now = electorate(view)
    assert now is not None
    assert now.voters == WORLD.genesis.validators


def test_what_binds_no_key() -> None:
    view = WORLD.state()
    refused = {
        "no_permit": bound(STRANGER),
        "key_taken": bound(WORLD.hotkeys[0], WORLD.keys[1]),
        "old_key": bound(WORLD.hotkeys[0], sequence=0),
    }
    before = dict(view.entries)
    for reason, signed in refused.items():
        assert bind_key(view, signed) == why_not_bound(view, signed) == reason
    assert bind_key(view, bound(WORLD.hotkeys[0], WORLD.keys[0])) == "key_taken"
    assert view.entries == before


def test_a_key_changes_once_an_epoch_and_never_comes_back() -> None:
    view = WORLD.state()
    hotkey, later = WORLD.hotkeys[0], ConsensusKey(sha256(b"later"))
    assert bind_key(view, bound(hotkey)) is None
    assert bind_key(view, bound(hotkey, later, sequence=2)) == "key_changed"
    write(view, keys.EPOCH, keys.Progress(epoch=1))
    assert bind_key(view, bound(hotkey, later, sequence=2)) is None
    write(view, keys.EPOCH, keys.Progress(epoch=2))
    assert bind_key(view, bound(hotkey, WORLD.keys[0], sequence=3)) == "key_taken"
    assert consensus_key(view, hotkey.public_key) == later.public_key


def test_a_hotkey_without_a_permit_binds_nothing() -> None:
    view = WORLD.state()
    poor = replaced(WORLD.genesis.neurons[-1], validator_permit=False)
    write(view, keys.NEURON + poor.hotkey, poor)
    assert bind_key(view, bound(WORLD.miners[-1])) == "no_permit"


def test_a_binding_is_signed_by_both_keys_for_this_network() -> None:
    good = bound(STRANGER)
    good.verify(WORLD.network_id)
    other = bound(STRANGER, ConsensusKey(sha256(b"other")))
    foreign = bound(STRANGER, world=World(name="other"))
    forged = (
        replaced(good, signature=other.signature),
        replaced(good, possession=other.possession),
        replaced(good, binding=replaced(good.binding, sequence=2)),
        foreign,
    )
    for signed in forged:
        with pytest.raises(SignatureError):
            signed.verify(WORLD.network_id)
