"""The knobs by name: what they change, and what they refuse."""

from __future__ import annotations

import pytest

from chain.devchain.admin import Admin
from chain.devchain.errors import RpcError
from chain.devchain.ledger import Ledger
from tests.chain.devchain.support import ADDRESSES, DRAND_SIGNATURE, KEYS, NEWCOMER, ledger


def turned(method: str, *params: object) -> Ledger:
    chain = ledger(finality_lag=5)
    Admin(chain, lambda: 1).call(method, list(params))
    return chain


def test_each_change_is_in_a_block_of_its_own():
    assert turned("dev_stake", ADDRESSES[1], 5, 6).head.state.stake_of(KEYS[1]) == 11
    assert not turned("dev_permit", ADDRESSES[1], False).head.state.neurons[1].validator_permit
    assert turned("dev_rule", "tempo", 7).head.state.rules.tempo == 7
    assert turned("dev_epochAt", 3).head.state.epochs.pending_at == 3
    assert turned("dev_pulse", 1000, DRAND_SIGNATURE).head.state.pulses[0].round == 1000
    new = ADDRESSES[NEWCOMER]
    assert turned("dev_register", new, new).head.state.uid_of(KEYS[NEWCOMER]) == 5
    assert turned("dev_replace", 1, new, new).head.state.uid_of(KEYS[NEWCOMER]) == 1
    chain = turned("dev_deregister", ADDRESSES[1])
    assert (chain.head.number, chain.head.state.uid_of(KEYS[1])) == (1, None)


def test_blocks_are_made_and_undone():
    chain = ledger(finality_lag=5)
    admin = Admin(chain, lambda: 1)
    assert admin.call("dev_jump", [4])[0] == 4
    admin.call("dev_reorg", [2])
    status = admin.call("dev_status", [])[0]
    assert (status["head"], status["fork"], status["pool"]) == (5, 1, 0)


def test_knobs_are_set_by_name_and_kind():
    chain = turned("dev_set", "delay_ms", 30)
    assert chain.knobs.delay_ms == 30
    assert turned("dev_set", "blocks_paused", True).knobs.blocks_paused is True


@pytest.mark.parametrize(
    ("method", "params", "text"),
    [
        ("dev_set", ["delay_ms", "soon"], "want int"),
        ("dev_set", ["delay_ms", True], "want int"),
        ("dev_set", ["silent", 1], "want bool"),
        ("dev_set", ["delay_ms", -1], "at least 0"),
        ("dev_set", ["errors", 1], "no knob 'errors'"),
        ("dev_set", [], "missing"),
        ("dev_jump", [0], "want 1 to"),
        ("dev_reorg", [1], "cannot be taken back"),
        ("dev_stake", ["nobody", 1], "not an ss58 address"),
        ("dev_stake", [ADDRESSES[1], -1], "stake"),
        ("dev_pulse", [1, "zz"], "hexadecimal"),
        ("dev_permit", [ADDRESSES[NEWCOMER], True], "is not registered"),
        ("dev_nonsense", [], "Method not found"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(method, params, text):
    chain = ledger()
    with pytest.raises(RpcError, match=text):
        Admin(chain, lambda: 1).call(method, params)
    assert chain.head is chain.genesis


def test_errors_are_served_in_order_and_counted():
    chain = ledger()
    admin = Admin(chain, lambda: 1)
    admin.call("dev_failNext", ["chain_getHead", -1, "first", None, 2])
    admin.call("dev_failNext", ["", -2, "any"])
    asked = ["chain_getHead", "chain_getHead", "system_health", "system_health"]
    served = [chain.knobs.next_error(method) for method in asked]
    assert [one and one.message for one in served] == ["first", "first", "any", None]
