from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import ChainErrorCode as Code
from chain.interface import Block, EpochStatus, Metagraph, Neuron, SubnetRules
from chain.preflight import Ready, Refused, Wait, preflight, stagger_blocks, without_reused
from chain.weights import is_normal_form

KEYS = [bytes([n]) * 32 for n in range(3)]
GRAPH = Metagraph(
    netuid=7,
    block=Block(25, bytes(32)),
    neurons=tuple(Neuron(uid, key, 1000, True, 12) for uid, key in enumerate(KEYS)),
)
EPOCH = EpochStatus(2, 20, 30)
VECTOR = ((0, 1), (2, 65535))


def decide(graph=GRAPH, hotkey=KEYS[0], vector=VECTOR, rate_limit=5, **more):
    return preflight(graph, EPOCH, hotkey, 25, rate_limit, vector, **more)


def test_a_vector_that_the_chain_would_take_is_ready():
    assert decide() == Ready()


def test_an_empty_vector_is_refused_by_name_and_burns_nothing():
    decision = decide(vector=())
    assert decision.code is Code.EMPTY_VECTOR
    assert "nothing is sent in their place" in decision.reason


def test_a_vector_not_in_normal_form_is_refused():
    assert decide(vector=((0, 5),)).code is Code.NOT_NORMAL_FORM


def test_the_rate_limit_is_a_wait_with_its_figure():
    decision = decide(rate_limit=20)
    assert isinstance(decision, Wait)
    assert (decision.blocks, decision.cause) == (7, "rate_limit")
    assert "the rate limit allows block 32, it is block 25 of epoch 2" in decision.reason


def test_the_last_update_of_another_mechanism_overrides_the_metagraphs():
    graph = replace(GRAPH, rules=SubnetRules(mechanisms=2))
    assert decide(graph, rate_limit=20, mechanism=1, last_update=0) == Ready()


def test_a_staggered_turn_is_a_wait():
    decision = decide(not_before=28)
    assert (decision.blocks, decision.cause, decision.reason[:9]) == (3, "turn", "this hotk")
    assert decide(not_before=28, rate_limit=20).blocks == 7
    assert decide(not_before=25) == Ready()


def test_a_wait_that_outlives_the_vector_is_expired():
    assert decide(not_before=28, until_block=29).blocks == 3
    assert decide(not_before=28, until_block=28).code is Code.EXPIRED
    assert decide(until_block=25).code is Code.EXPIRED


@pytest.mark.parametrize(
    ("graph", "arguments", "code"),
    [
        (GRAPH, {"mechanism": 1}, Code.MECHANISM_DOES_NOT_EXIST),
        (GRAPH, {"hotkey": b"x" * 32}, Code.HOTKEY_NOT_REGISTERED_IN_SUBNET),
        (
            replace(GRAPH, rules=SubnetRules(min_stake=1001)),
            {},
            Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS,
        ),
        (replace(GRAPH, rules=SubnetRules(version_key=1)), {}, Code.INCORRECT_WEIGHT_VERSION_KEY),
        (
            replace(GRAPH, neurons=(Neuron(0, KEYS[0], 0, False, 0), *GRAPH.neurons[1:])),
            {},
            Code.NEURON_NO_VALIDATOR_PERMIT,
        ),
        (GRAPH, {"vector": ((0, 1), (9, 65535))}, Code.UID_VEC_CONTAIN_INVALID_ONE),
        (
            replace(GRAPH, rules=SubnetRules(min_allowed_weights=3)),
            {},
            Code.WEIGHT_VEC_LENGTH_IS_LOW,
        ),
        (replace(GRAPH, rules=SubnetRules(max_weight_limit=9)), {}, Code.MAX_WEIGHT_EXCEEDED),
    ],
)
def test_what_the_chain_would_refuse_is_refused_at_once_however_long_the_wait(
    graph, arguments, code
):
    decision = decide(graph, rate_limit=1000, **arguments)
    assert isinstance(decision, Refused)
    assert decision.code is code
    assert str(code) in decision.reason


@given(st.binary(), st.binary(min_size=32, max_size=32), st.integers(0, 400))
def test_a_stagger_is_within_its_window_and_repeatable(seed, hotkey, window):
    delay = stagger_blocks(seed, hotkey, window)
    assert 0 <= delay < max(1, window)
    assert stagger_blocks(seed, hotkey, window) == delay


def test_staggers_spread_over_the_window_and_change_with_the_seed():
    hotkeys = [bytes([n]) * 32 for n in range(256)]
    first = [stagger_blocks(b"epoch 1", hotkey, 8) for hotkey in hotkeys]
    assert all(16 <= first.count(block) <= 48 for block in range(8))
    assert first != [stagger_blocks(b"epoch 2", hotkey, 8) for hotkey in hotkeys]


def test_a_uid_that_changed_hands_is_left_out_as_worked_by_hand():
    graph = replace(
        GRAPH, neurons=tuple(Neuron(uid, bytes([uid]) * 32, 1, True, 0) for uid in (1, 2, 4))
    )
    vector = ((1, 65535), (2, 32768), (4, 16384))
    holders = (b"x" * 32, bytes([2]) * 32, bytes([4]) * 32)
    assert without_reused(vector, holders, graph) == ((2, 65535), (4, 32768))


def test_a_uid_that_is_gone_is_left_out():
    assert without_reused(((0, 65535), (9, 5)), (KEYS[0], b"x" * 32), GRAPH) == ((0, 65535),)


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        # A third each before; of two, a half each is too much for a limit of 0.4.
        (SubnetRules(max_weight_limit=26214), ()),
        (SubnetRules(min_allowed_weights=3), ((0, 65535), (1, 65535), (3, 1))),
        (SubnetRules(min_allowed_weights=9), ((0, 65535), (1, 65535), (3, 1), (4, 1))),
        (SubnetRules(max_weight_limit=32768), ((0, 65535), (1, 65535))),
    ],
)
def test_what_is_left_is_fitted_to_the_chains_limits(rules, left):
    neurons = tuple(Neuron(uid, bytes([uid]) * 32, 1, True, 0) for uid in range(5))
    vector = ((0, 65535), (1, 65535), (2, 65535))
    holders = (bytes(32), bytes([1]) * 32, b"x" * 32)
    assert without_reused(vector, holders, replace(GRAPH, neurons=neurons, rules=rules)) == left


def test_what_is_left_whole_is_not_fitted():
    graph = replace(GRAPH, rules=SubnetRules(min_allowed_weights=3, max_weight_limit=9))
    assert without_reused(VECTOR, (KEYS[0], KEYS[2]), graph) == VECTOR


def test_a_vector_of_unknown_holders_is_left_as_it_is():
    assert without_reused(((9, 65535),), (), GRAPH) == ((9, 65535),)
    with pytest.raises(ValueError):
        without_reused(VECTOR, (KEYS[0],), GRAPH)


@given(
    weights=st.lists(st.integers(1, 65535), min_size=3, max_size=3),
    reused=st.sets(st.integers(0, 2)),
)
def test_what_is_left_is_in_normal_form_and_keeps_its_order(weights, reused):
    vector = tuple(enumerate(weights))
    holders = tuple(b"x" * 32 if uid in reused else KEYS[uid] for uid in range(3))
    left = without_reused(vector, holders, GRAPH)
    assert {uid for uid, _ in left} == set(range(3)) - reused
    assert not reused or is_normal_form(left)
    ordered = sorted(vector, key=lambda one: one[1])
    after = [dict(left)[uid] for uid, _ in ordered if uid not in reused]
    assert after == sorted(after)
