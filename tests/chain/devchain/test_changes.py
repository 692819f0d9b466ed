"""Changes of the subnet, and what the live chain does to a uid that changes hands."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from chain.devchain import changes
from chain.devchain.errors import DevChainError
from chain.devchain.state import State, WeightRow
from tests.chain.devchain.support import KEYS, NEWCOMER, STAKE, genesis


def weighted() -> State:
    state = replace(genesis(mechanisms=2), block=50)
    for mechanism in range(2):
        for uid in (1, 2):
            row = WeightRow(mechanism=mechanism, uid=uid, vector=((0, 9), (2, 65535)))
            state = state.with_weights(row).with_update(uid, mechanism, 40)
    return state


def test_stake_outlives_a_registration():
    state = changes.with_stake(genesis(), KEYS[1], 5, 6)
    assert changes.deregistered(state, KEYS[1]).stake_of(KEYS[1]) == 11
    assert changes.with_stake(state, b"x" * 32, 7).stake_of(b"x" * 32) == 7


def test_a_permit_is_given_and_revoked():
    state = changes.with_permit(genesis(), KEYS[1], False)
    assert not state.neurons[1].validator_permit
    assert changes.with_permit(state, KEYS[1], True) == genesis()
    with pytest.raises(DevChainError, match="is not registered"):
        changes.with_permit(state, KEYS[NEWCOMER], True)


def test_a_rule_is_set_by_name_within_its_bounds():
    assert changes.with_rule(genesis(), "tempo", 99).rules.tempo == 99
    with pytest.raises(DevChainError, match="no hyperparameter 'tmepo'"):
        changes.with_rule(genesis(), "tmepo", 99)
    for name, value in [("tempo", -1), ("mechanisms", 17), ("tempo", "9"), ("commit_reveal", 1)]:
        with pytest.raises(DevChainError, match=f"{name} = {value!r}"):
            changes.with_rule(genesis(), name, value)


def test_a_new_registration_counts_as_an_update_of_its_block():
    state = changes.registered(weighted(), KEYS[NEWCOMER], KEYS[0])
    assert state.uid_of(KEYS[NEWCOMER]) == 5
    assert [state.last_update(5, mechanism) for mechanism in range(2)] == [50, 50]
    assert (state.neurons[5].registered_at, state.neurons[5].validator_permit) == (50, False)
    with pytest.raises(DevChainError, match="is registered"):
        changes.registered(state, KEYS[NEWCOMER], KEYS[0])


def test_a_replaced_uid_loses_its_weights_and_what_others_gave_it():
    state = changes.replaced(weighted(), 2, KEYS[NEWCOMER], KEYS[0])
    assert state.neurons[2].hotkey == KEYS[NEWCOMER]
    assert not state.neurons[2].validator_permit
    for mechanism in range(2):
        assert state.weights_of(2, mechanism) == ()
        assert state.weights_of(1, mechanism) == ((0, 9), (2, 0))
        assert state.last_update(2, mechanism) == 40
    assert state.stake_of(KEYS[2]) == STAKE


def test_on_older_runtimes_a_replaced_uid_inherits():
    state = changes.replaced(weighted(), 2, KEYS[NEWCOMER], KEYS[0], inherit=True)
    assert state.weights_of(2, 0) == ((0, 9), (2, 65535))
    assert state.weights_of(1, 0) == ((0, 9), (2, 65535))
    assert state.neurons[2].validator_permit


def test_the_owners_uid_and_a_second_one_are_refused():
    with pytest.raises(DevChainError, match="uid 4 is the owner's"):
        changes.replaced(genesis(), 4, KEYS[NEWCOMER], KEYS[0])
    with pytest.raises(DevChainError, match="has a uid already"):
        changes.replaced(genesis(), 2, KEYS[1], KEYS[0])
    with pytest.raises(DevChainError, match="uid 9, there are 5"):
        changes.replaced(genesis(), 9, KEYS[NEWCOMER], KEYS[0])


def test_a_deregistered_hotkey_leaves_its_uid_to_nobody():
    state = changes.deregistered(genesis(), KEYS[1])
    assert state.uid_of(KEYS[1]) is None
    assert len(state.neurons) == 5
    assert state.neurons[1].hotkey not in KEYS
