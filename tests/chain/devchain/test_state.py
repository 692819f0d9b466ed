"""The state's own lookups and replacements."""

from __future__ import annotations

from msgspec.structs import replace

from chain.devchain.state import Account, State, WeightRow
from protocol.codec import decode, encode
from tests.chain.devchain.support import KEYS, NETUID, NEWCOMER, STAKE, genesis


def test_updates_are_kept_for_each_mechanism_and_uid():
    state = genesis(mechanisms=3).with_update(2, 2, 9).with_update(0, 0, 5)
    assert [state.last_update(2, mechanism) for mechanism in range(4)] == [0, 0, 9, 0]
    assert state.last_update(0, 0) == 5
    assert state.last_update(99, 0) == state.last_update(-1, 0) == 0


def test_a_row_of_weights_replaces_the_one_before():
    state = genesis()
    for value in (1, 2):
        state = state.with_weights(WeightRow(mechanism=1, uid=3, vector=((0, value),)))
    assert state.weights_of(3, 1) == ((0, 2),)
    assert state.weights_of(3, 0) == ()
    assert len(state.weights) == 1


def test_the_metagraph_has_what_the_checks_ask_for():
    state = genesis(min_stake=3, mechanisms=2, commit_reveal=True).with_update(1, 0, 8)
    graph = replace(state, block=77).metagraph()
    assert (graph.netuid, graph.block.number, len(graph.neurons)) == (NETUID, 77, 5)
    assert (graph.neurons[1].last_update, graph.neurons[1].stake) == (8, STAKE)
    assert graph.owner is graph.by_uid(4)
    assert (graph.rules.min_stake, graph.rules.mechanisms, graph.rules.commit_reveal) == (
        3,
        2,
        True,
    )


def test_accounts_are_replaced_by_key():
    state = genesis().with_account(Account(key=KEYS[1], nonce=4))
    account = state.account(KEYS[1])
    assert account is not None
    assert account.nonce == 4
    assert len(state.accounts) == len(genesis().accounts)
    assert state.account(b"x" * 32) is None
    assert state.stake_of(KEYS[NEWCOMER]) == 0


def test_a_state_survives_its_encoding():
    state = genesis().with_update(1, 0, 8)
    assert decode(State, encode(state)) == state
    assert state.storage_index(2) == 2 * 4096 + NETUID
