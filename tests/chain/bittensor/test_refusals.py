"""Every refusal of the pool and of a block, provoked through the adapter, by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.bittensor.writes import require_sendable
from chain.devchain.server import DevChain, open_devchain
from chain.errors import ChainError, Retry
from chain.errors import ChainErrorCode as Code
from tests.chain.bittensor.support import Signer, adapter, refusal
from tests.chain.devchain.support import (
    ADDRESSES,
    DRAND_SIGNATURE,
    KEYS,
    NEWCOMER,
    run_config,
    signed,
    subnet,
)

VECTOR = ((0, 21845), (2, 65535), (3, 1))
STRANGER = 6

Prepare = Callable[[DevChain], None]


def _does(*calls: tuple[Any, ...]) -> Prepare:
    def prepare(chain: DevChain) -> None:
        for call in calls:
            chain.call(*call)

    return prepare


def _sets_before(chain: DevChain) -> None:
    chain.ledger.submit(signed(chain.ledger, 1))
    chain.call("dev_jump", 1)


def _commits_before(times: int) -> Prepare:
    commit = {"mecid": 0, "commit": b"\xff", "reveal_round": 1 << 40, "commit_reveal_version": 4}

    def prepare(chain: DevChain) -> None:
        for _ in range(times):
            chain.ledger.submit(
                signed(chain.ledger, 1, "commit_timelocked_mechanism_weights", **commit)
            )
        chain.call("dev_jump", 1)

    return prepare


def _nothing(_chain: DevChain) -> None:
    pass


_LIMIT = {"weights_rate_limit": 1000}
_COMMIT = {"commit_reveal": True, "tempo": 10_000}
_UIDS = ((0, 65535), (2, 65535))

IN_A_BLOCK: list[tuple[Code, dict[str, Any], Prepare, dict[str, Any]]] = [
    (Code.MECHANISM_DOES_NOT_EXIST, {}, _nothing, {"mechanism": 1}),
    (
        Code.UIDS_LENGTH_EXCEED_UIDS_IN_SUBNET,
        {},
        _nothing,
        {"vector": tuple((uid, 65535) for uid in range(6))},
    ),
    (Code.HOTKEY_NOT_REGISTERED_IN_SUBNET, {}, _does(("dev_deregister", ADDRESSES[1])), {}),
    (Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS, {"min_stake": 5000}, _nothing, {}),
    (Code.INCORRECT_WEIGHT_VERSION_KEY, {"version_key": 5}, _nothing, {"version_key": 4}),
    (Code.SETTING_WEIGHTS_TOO_FAST, _LIMIT, _sets_before, {}),
    (Code.NEURON_NO_VALIDATOR_PERMIT, {}, _does(("dev_permit", ADDRESSES[1], False)), {}),
    (Code.DUPLICATE_UIDS, {}, _nothing, {"vector": ((2, 65535), (2, 1))}),
    (Code.UID_VEC_CONTAIN_INVALID_ONE, {}, _nothing, {"vector": ((0, 65535), (5, 65535))}),
    (Code.WEIGHT_VEC_LENGTH_IS_LOW, {"min_allowed_weights": 3}, _nothing, {"vector": _UIDS}),
    (
        Code.MAX_WEIGHT_EXCEEDED,
        {"max_weight_limit": 40000},
        _nothing,
        {"vector": ((0, 65535), (2, 1))},
    ),
    (Code.COMMITTING_WEIGHTS_TOO_FAST, {**_COMMIT, **_LIMIT}, _commits_before(1), {}),
    (
        Code.TOO_MANY_UNREVEALED_COMMITS,
        {**_COMMIT, "weights_rate_limit": 0},
        _commits_before(10),
        {},
    ),
    (
        Code.INCORRECT_COMMIT_REVEAL_VERSION,
        {**_COMMIT, "commit_reveal_version": 5},
        _nothing,
        {},
    ),
]


@pytest.mark.parametrize(
    ("code", "rules", "prepare", "call"), IN_A_BLOCK, ids=[one[0].value for one in IN_A_BLOCK]
)
async def test_each_refusal_of_a_block_has_the_chains_name(
    tmp_path: Path, code: Code, rules: dict[str, Any], prepare: Prepare, call: dict[str, Any]
):
    async with (
        open_devchain(subnet(**rules), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        chain.call("dev_set", "pool_checks", False)
        prepare(chain)
        error = await refusal(node.set_weights(Signer(1), **{"vector": VECTOR, **call}))
        assert error.code is code, error
        assert error.code.value in str(error)
        assert node.status().counts["connected"] == 1


IN_THE_POOL: list[tuple[Code, Retry, dict[str, Any], Prepare]] = [
    (Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS, Retry.NEVER, {"min_stake": 5000}, _nothing),
    (Code.SETTING_WEIGHTS_TOO_FAST, Retry.WAIT_BLOCKS, _LIMIT, _sets_before),
    (
        Code.COMMITTING_WEIGHTS_TOO_FAST,
        Retry.WAIT_BLOCKS,
        {**_COMMIT, **_LIMIT},
        _commits_before(1),
    ),
    (
        Code.INVALID_REVEAL_ROUND,
        Retry.BACK_OFF,
        _COMMIT,
        _does(("dev_pulse", 1 << 40, DRAND_SIGNATURE)),
    ),
]


@pytest.mark.parametrize(
    ("code", "retry", "rules", "prepare"), IN_THE_POOL, ids=[one[0].value for one in IN_THE_POOL]
)
async def test_each_refusal_of_the_pool_has_the_chains_name(
    tmp_path: Path, code: Code, retry: Retry, rules: dict[str, Any], prepare: Prepare
):
    async with (
        open_devchain(subnet(**rules), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        prepare(chain)
        nonce = chain.ledger.next_nonce(KEYS[1])
        error = await refusal(node.set_weights(Signer(1), VECTOR))
        assert (error.code, error.code.retry) == (code, retry), error
        assert chain.ledger.next_nonce(KEYS[1]) == nonce


POOL_WORDS: list[tuple[int, str, str | None, Code]] = [
    (1010, "Invalid Transaction", "Custom error: 3", Code.SUBNET_NOT_EXISTS),
    (1010, "Invalid Transaction", "Custom error: 16", Code.NO_WEIGHTS_COMMIT_FOUND),
    (1010, "Invalid Transaction", "Custom error: 17", Code.REVEAL_TOO_EARLY),
    (1010, "Invalid Transaction", "Custom error: 19", Code.HOTKEY_NOT_REGISTERED_IN_SUBNET),
    (1010, "Invalid Transaction", "Custom error: 99", Code.UNEXPECTED),
    (1010, "Invalid Transaction", "Transaction is outdated", Code.STALE),
    (1010, "Invalid Transaction", "Transaction has a bad signature", Code.BAD_PROOF),
    (1010, "Invalid Transaction", "Transaction has an ancient birth block", Code.NOT_INCLUDED),
    (1013, "Transaction is already imported", "0x00", Code.NOT_INCLUDED),
    (1014, "Priority is too low", None, Code.NOT_INCLUDED),
    (-32000, "the node is out of order", None, Code.UNEXPECTED),
]


@pytest.mark.parametrize(("number", "message", "data", "code"), POOL_WORDS)
async def test_what_else_a_pool_may_say(
    tmp_path: Path, number: int, message: str, data: str | None, code: Code
):
    """Words that this pool says in other cases, or not at all; the next try succeeds."""
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        chain.call("dev_failNext", "author_submitAndWatchExtrinsic", number, message, data)
        error = await refusal(node.set_weights(Signer(1), VECTOR))
        assert error.code is code, error
        await node.set_weights(Signer(1), VECTOR)


async def test_an_account_that_the_chain_does_not_know(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        unknown = await refusal(node.set_weights(Signer(STRANGER), VECTOR))
        newcomer = await refusal(node.set_weights(Signer(NEWCOMER), VECTOR))
    assert (unknown.code, newcomer.code) == (Code.PAYMENT, Code.HOTKEY_NOT_REGISTERED_IN_SUBNET)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_subnet_that_is_switched_between_reading_and_inclusion(
    tmp_path: Path, commits: bool
):
    class Switching(Signer):
        """Signs, and in the meantime the owner switches commit-reveal."""

        def sign(self, message: bytes) -> bytes:
            trio.from_thread.run_sync(
                chain.call, "dev_rule", "commit_reveal", not commits, trio_token=token
            )
            return super().sign(message)

    token = trio.lowlevel.current_trio_token()
    async with (
        open_devchain(subnet(commit_reveal=commits, tempo=1000), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        error = await refusal(node.set_weights(Switching(1), VECTOR))
        assert error.code is (
            Code.COMMIT_REVEAL_DISABLED if commits else Code.COMMIT_REVEAL_ENABLED
        )
        assert error.code.retry is Retry.BACK_OFF


@pytest.mark.parametrize(
    ("vector", "mechanism", "version_key", "code"),
    [
        ((), 0, 0, Code.EMPTY_VECTOR),
        (((0, 65536),), 0, 0, Code.MALFORMED_CALL),
        (((-1, 1),), 0, 0, Code.MALFORMED_CALL),
        (((65536, 1),), 0, 0, Code.MALFORMED_CALL),
        (((0, 1),), 256, 0, Code.MALFORMED_CALL),
        (((0, 1),), -1, 0, Code.MALFORMED_CALL),
        (((0, 1),), 0, 1 << 64, Code.MALFORMED_CALL),
    ],
)
def test_what_no_call_can_carry(vector: Any, mechanism: int, version_key: int, code: Code):
    with pytest.raises(ChainError) as caught:
        require_sendable(vector, mechanism, version_key)
    assert caught.value.code is code
