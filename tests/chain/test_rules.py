"""Every check of a weights call, and that the first in the chain's order is the one reported."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import Block, Metagraph, Neuron, SubnetRules
from chain.rules import CallUnderCheck, blocks_until_allowed, checked_weights, is_within_limit

KEYS = [bytes([n]) * 32 for n in range(4)]
RULES = SubnetRules(
    min_stake=100, version_key=5, mechanisms=2, min_allowed_weights=2, max_weight_limit=40000
)
GRAPH = Metagraph(
    netuid=7,
    block=Block(50, bytes(32)),
    neurons=tuple(Neuron(uid, key, 1000, True, 0) for uid, key in enumerate(KEYS)),
    rules=RULES,
)
GOOD = CallUnderCheck(
    hotkey=KEYS[1],
    uids=(0, 2),
    values=(30000, 30000),
    mechanism=1,
    version_key=5,
    block=50,
    last_update=40,
    rate_limit=10,
)
FAULTS = [
    (Code.WEIGHT_VEC_NOT_EQUAL_SIZE, {"uids": (0, 2, 3)}, {}, r"3 uids but 2 values"),
    (Code.MECHANISM_DOES_NOT_EXIST, {"mechanism": 2}, {}, "mechanism 2, subnet 7 has 2"),
    (
        Code.UIDS_LENGTH_EXCEED_UIDS_IN_SUBNET,
        {"uids": (0, 1, 2, 3, 0), "values": (1, 1, 1, 1, 1)},
        {},
        "5 uids, subnet 7 has 4",
    ),
    (Code.HOTKEY_NOT_REGISTERED_IN_SUBNET, {"hotkey": b"x" * 32}, {}, "not registered in subnet 7"),
    (Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS, {}, {"stake": 99}, "stake of 99 rao, 100 is needed"),
    (Code.INCORRECT_WEIGHT_VERSION_KEY, {"version_key": 4}, {}, "version key 4, subnet 7 asks"),
    (Code.SETTING_WEIGHTS_TOO_FAST, {"last_update": 41}, {}, "wait 1 blocks"),
    (Code.NEURON_NO_VALIDATOR_PERMIT, {}, {"validator_permit": False}, "uid 1 has no validator"),
    (Code.DUPLICATE_UIDS, {"uids": (2, 2)}, {}, "uid 2 occurs more than once"),
    (Code.UID_VEC_CONTAIN_INVALID_ONE, {"uids": (0, 4)}, {}, "uid 4 does not exist in subnet 7"),
    (Code.WEIGHT_VEC_LENGTH_IS_LOW, {"uids": (0,), "values": (1,)}, {}, "asks for 2 or more"),
    (Code.MAX_WEIGHT_EXCEEDED, {"values": (60000, 1)}, {}, "above 40000/65535"),
]


def graph_with(neuron_changes: dict[str, object], **changes: object) -> Metagraph:
    neurons = list(GRAPH.neurons)
    neurons[1] = replace(neurons[1], **neuron_changes)
    return replace(GRAPH, neurons=tuple(neurons), **changes)


def refused(graph: Metagraph, call: CallUnderCheck) -> ChainError:
    with pytest.raises(ChainError) as caught:
        checked_weights(graph, call)
    return caught.value


def test_a_good_call_is_stored_upscaled():
    assert checked_weights(GRAPH, GOOD) == ((0, 65535), (2, 65535))


@pytest.mark.parametrize(("code", "call", "neuron", "text"), FAULTS, ids=[f[0] for f in FAULTS])
def test_each_fault_has_the_chains_name_and_a_figure(code, call, neuron, text):
    error = refused(graph_with(neuron), replace(GOOD, **call))
    assert error.code is code
    assert text in str(error)


PAIRS = [
    (first, second)
    for first, second in combinations(FAULTS, 2)
    if not (first[1].keys() & second[1].keys() or first[2].keys() & second[2].keys())
]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a[0]}, {b[0]}" for a, b in PAIRS])
def test_of_two_faults_the_first_in_the_chains_order_is_reported(first, second):
    graph = graph_with({**first[2], **second[2]})
    assert refused(graph, replace(GOOD, **first[1], **second[1])).code is first[0]


@pytest.mark.parametrize(
    ("uids", "values", "code"),
    [
        ((4, 4, 4), (60000, 1), Code.WEIGHT_VEC_NOT_EQUAL_SIZE),
        ((4, 4, 4, 4, 4), (1, 1, 1, 1, 1), Code.UIDS_LENGTH_EXCEED_UIDS_IN_SUBNET),
        ((4, 4), (60000, 1), Code.DUPLICATE_UIDS),
        ((4,), (60000,), Code.UID_VEC_CONTAIN_INVALID_ONE),
        ((0,), (60000,), Code.WEIGHT_VEC_LENGTH_IS_LOW),
        ((0, 2), (60000, 1), Code.MAX_WEIGHT_EXCEEDED),
    ],
)
def test_of_several_faults_of_one_vector_the_first_in_order_is_reported(uids, values, code):
    assert refused(GRAPH, replace(GOOD, uids=uids, values=values)).code is code


def test_the_owner_is_exempt_from_stake_and_permit():
    graph = graph_with({"stake": 0, "validator_permit": False}, owner_hotkey=KEYS[1])
    assert checked_weights(graph, GOOD)


def test_a_single_self_weight_is_exempt_from_permit_length_and_limit():
    call = replace(GOOD, uids=(1,), values=(9,))
    assert checked_weights(graph_with({"validator_permit": False}), call) == ((1, 65535),)


def test_with_commit_reveal_what_is_revealed_has_no_rate_limit():
    graph = replace(GRAPH, rules=replace(RULES, commit_reveal=True))
    too_fast = replace(GOOD, last_update=GOOD.block)
    assert checked_weights(graph, too_fast) == checked_weights(GRAPH, GOOD)
    assert refused(GRAPH, too_fast).code is Code.SETTING_WEIGHTS_TOO_FAST


def test_version_key_zero_accepts_any():
    graph = replace(GRAPH, rules=replace(RULES, version_key=0))
    assert checked_weights(graph, replace(GOOD, version_key=0))


@pytest.mark.parametrize(
    ("last", "block", "limit", "wait"),
    [(100, 104, 10, 6), (100, 110, 10, 0), (0, 1, 10, 0), (100, 90, 10, 10), (5, 5, 0, 0)],
)
def test_blocks_until_allowed_by_hand(last, block, limit, wait):
    assert blocks_until_allowed(last, block, limit) == wait


def test_the_rate_limit_error_tells_how_long_to_wait():
    assert refused(GRAPH, replace(GOOD, last_update=44)).wait_blocks == 4


@pytest.mark.parametrize(
    ("values", "limit", "within"),
    [
        ((), 0, True),
        ((65535,), 65535, True),
        ((65535,), 65534, False),
        ((65535,), 0, False),
        ((0,), 0, True),
        ((0, 65535), 65535, True),
        ((0, 65535, 65535), 32767, False),
        ((0, 65535, 65535), 32768, True),
        ((0, 65535, 65535, 65535), 21844, False),
        ((0, 65535, 65535, 65535), 21845, True),
    ],
)
def test_the_limit_agrees_with_the_pallets_own_vectors(values, limit, within):
    """Subtensor's unit tests of `check_vec_max_limited`."""
    assert is_within_limit(values, limit) is within
