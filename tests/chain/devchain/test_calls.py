"""Every refusal of a weights call, in a block and by the pool, and which comes first."""

from __future__ import annotations

import pytest

from chain.devchain import changes
from chain.devchain.errors import PoolRefusedError
from chain.devchain.ledger import Ledger
from tests.chain.devchain.support import (
    ADDRESSES,
    KEYS,
    NETUID,
    NEWCOMER,
    STAKE,
    include,
    ledger,
    outcome,
    sealed_commit,
    signed,
)

SEALED = {"reveal_round": 1000, "commit_reveal_version": 4}
TIMELOCKED = "commit_timelocked_mechanism_weights"


def strict(**rules: object) -> Ledger:
    """A chain on which each of the faults below is a fault, and whose pool lets it through."""
    given = {
        "min_stake": STAKE,
        "version_key": 5,
        "mechanisms": 2,
        "min_allowed_weights": 2,
        "max_weight_limit": 40000,
        "weights_rate_limit": 5,
    }
    chain = ledger(**{**given, **rules})
    chain.knobs.pool_checks = False
    return chain


def change(chain: Ledger, *changed: object) -> None:
    for one in changed:
        chain.produce(0, one)


FAULTS = [
    ("WeightVecNotEqualSize", {"dests": [0, 1, 2]}, None),
    ("MechanismDoesNotExist", {"mecid": 2}, None),
    ("UidsLengthExceedUidsInSubNet", {"dests": [0] * 6, "weights": [1] * 6}, None),
    ("HotKeyNotRegisteredInSubNet", {}, lambda state: changes.deregistered(state, KEYS[1])),
    (
        "NotEnoughStakeToSetWeights",
        {},
        lambda state: changes.with_stake(state, KEYS[1], STAKE - 1),
    ),
    ("IncorrectWeightVersionKey", {"version_key": 4}, None),
    ("SettingWeightsTooFast", {}, lambda state: state.with_update(1, 1, state.block)),
    ("NeuronNoValidatorPermit", {}, lambda state: changes.with_permit(state, KEYS[1], False)),
    ("DuplicateUids", {"dests": [2, 2]}, None),
    ("UidVecContainInvalidOne", {"dests": [0, 5]}, None),
    ("WeightVecLengthIsLow", {"dests": [0], "weights": [1]}, None),
    ("MaxWeightExceeded", {"weights": [60000, 1]}, None),
]
GOOD = {"mecid": 1, "version_key": 5}
CALL = "set_mechanism_weights"


@pytest.mark.parametrize(("name", "arguments", "changed"), FAULTS, ids=[one[0] for one in FAULTS])
def test_each_refused_call_is_in_a_block_under_its_name(name, arguments, changed):
    chain = strict()
    if changed is not None:
        change(chain, changed)
    nonce = chain.next_nonce(KEYS[1])
    assert outcome(chain, signed(chain, 1, CALL, **{**GOOD, **arguments})) == name
    assert chain.head.state.weights_of(1, 1) == ()
    assert chain.next_nonce(KEYS[1]) == nonce + 1


@pytest.mark.parametrize("first", range(3, 8))
def test_of_all_faults_of_the_caller_the_first_in_order_is_named(first):
    """The vector's faults are all in the call; those of the caller from `first` on are added."""
    chain = strict()
    arguments = {**GOOD, "dests": [2, 2], "weights": [60000, 1]}
    for _name, added, changed in FAULTS[first:8]:
        arguments |= added
        # A deregistered hotkey has no uid left to be changed, so it comes last.
        if changed is not None and first != 3:
            change(chain, changed)
    if first == 3:
        change(chain, FAULTS[3][2])
    assert outcome(chain, signed(chain, 1, CALL, **arguments)) == FAULTS[first][0]


def test_a_good_call_is_stored_upscaled_under_its_mechanism():
    chain = strict()
    made = include(chain, signed(chain, 1, CALL, **GOOD))
    assert [(one["event_id"], one["attributes"]) for one in made[:1]] == [
        ("WeightsSet", (4096 + NETUID, 1))
    ]
    assert chain.head.state.weights_of(1, 1) == ((0, 65535), (2, 65535))
    assert chain.head.state.weights_of(1, 0) == ()
    assert chain.head.state.last_update(1, 1) == chain.head.number
    assert chain.head.state.last_update(1, 0) == 0


def test_the_rate_limit_is_the_mechanisms_own():
    chain = strict()
    assert outcome(chain, signed(chain, 1, CALL, **GOOD)) == "Success"
    assert outcome(chain, signed(chain, 1, CALL, **{**GOOD, "mecid": 0})) == "Success"
    assert outcome(chain, signed(chain, 1, CALL, **GOOD)) == "SettingWeightsTooFast"
    chain.jump(2, 0)
    assert chain.head.number + 1 - chain.head.state.last_update(1, 1) == 5
    assert outcome(chain, signed(chain, 1, CALL, **GOOD)) == "Success"


def test_the_owner_needs_neither_stake_nor_permit():
    chain = strict()
    change(
        chain,
        lambda state: changes.with_stake(state, KEYS[4], 0),
        lambda state: changes.with_permit(state, KEYS[4], False),
    )
    chain.knobs.pool_checks = True
    assert outcome(chain, signed(chain, 4, CALL, **GOOD)) == "Success"


def test_another_subnet_does_not_exist():
    chain = strict()
    elsewhere = {**GOOD, "netuid": 9}
    assert outcome(chain, signed(chain, 1, CALL, **elsewhere)) == "MechanismDoesNotExist"
    uneven = signed(chain, 1, CALL, **{**elsewhere, "dests": [1]})
    assert outcome(chain, uneven) == "WeightVecNotEqualSize"


@pytest.mark.parametrize(
    ("name", "function", "arguments", "rules"),
    [
        ("CommitRevealEnabled", "set_weights", {"version_key": 5}, {"commit_reveal": True}),
        ("CommitRevealDisabled", TIMELOCKED, {"mecid": 0, **SEALED}, {}),
        ("MechanismDoesNotExist", TIMELOCKED, {"mecid": 2, **SEALED}, {"commit_reveal": True}),
        (
            "IncorrectCommitRevealVersion",
            TIMELOCKED,
            {"mecid": 0, **SEALED, "commit_reveal_version": 3},
            {"commit_reveal": True},
        ),
    ],
)
def test_commit_reveal_is_asked_for_or_refused(name, function, arguments, rules):
    chain = strict(**rules)
    if function == TIMELOCKED:
        arguments = {**arguments, "commit": sealed_commit(1, [0, 2], [1, 1])}
    assert outcome(chain, signed(chain, 1, function, **arguments)) == name


def test_a_stranger_with_an_account_may_send_but_not_commit():
    chain = strict(commit_reveal=True, min_stake=0)
    data = signed(chain, NEWCOMER, TIMELOCKED, mecid=0, commit=b"\xff", **SEALED)
    assert outcome(chain, data) == "HotKeyNotRegisteredInSubNet"


def test_what_is_no_weights_call_is_filtered_but_for_a_remark():
    chain = ledger()
    remark = signed(chain, 1, "remark", module="System", remark=b"hello")
    assert outcome(chain, remark) == "Success"
    other = {"dest": ADDRESSES[2], "value": 1}
    transfer = signed(chain, 1, "transfer_keep_alive", module="Balances", **other)
    assert outcome(chain, transfer) == "CallFiltered"


def pool_refusal(chain: Ledger, data: bytes) -> str | None:
    with pytest.raises(PoolRefusedError) as caught:
        chain.submit(data)
    assert caught.value.code == 1010
    assert len(chain.pool) == 0
    return caught.value.data


def test_the_pool_refuses_too_little_stake_before_the_rate():
    chain = ledger(min_stake=STAKE, weights_rate_limit=5)
    include(chain, signed(chain, 1))
    assert pool_refusal(chain, signed(chain, 1)) == "Custom error: 6"
    change(chain, lambda state: changes.with_stake(state, KEYS[1], STAKE - 1))
    assert pool_refusal(chain, signed(chain, 1)) == "Custom error: 1"


def test_the_pool_refuses_a_drand_round_that_is_past():
    chain = ledger(commit_reveal=True)
    change(chain, lambda state: changes.with_pulse(state, 1001, b"\x01" * 48))
    data = signed(chain, 1, TIMELOCKED, mecid=0, commit=b"\xff", **SEALED)
    assert pool_refusal(chain, data) == "Custom error: 15"


def test_the_pool_refuses_a_second_commit_too_soon():
    chain = ledger(commit_reveal=True, weights_rate_limit=5)
    commit = {"mecid": 0, "commit": b"\xff", **SEALED}
    assert outcome(chain, signed(chain, 1, TIMELOCKED, **commit)) == "Success"
    assert pool_refusal(chain, signed(chain, 1, TIMELOCKED, **commit)) == "Custom error: 6"
    chain.knobs.pool_checks = False
    last = signed(chain, 1, TIMELOCKED, **commit)
    assert outcome(chain, last) == "CommittingWeightsTooFast"


def test_a_reveal_without_a_commit_is_refused_by_the_pool():
    chain = ledger(commit_reveal=True)
    reveal = {"uids": [0], "values": [1], "salt": [3], "version_key": 0}
    assert pool_refusal(chain, signed(chain, 1, "reveal_weights", **reveal)) == "Custom error: 16"
