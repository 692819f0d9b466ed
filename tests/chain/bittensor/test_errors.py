"""The SDK's own error classes and every name it has for a weights call, as this node's codes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from chain.bittensor.errors import as_chain_error
from chain.errors import ChainErrorCode as Code

sdk = importlib.import_module("bittensor.result")
error_map = importlib.import_module("bittensor.error_map")

POOL = {
    1: Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS,
    3: Code.SUBNET_NOT_EXISTS,
    4: Code.HOTKEY_NOT_REGISTERED_IN_SUBNET,
    6: Code.SETTING_WEIGHTS_TOO_FAST,
    10: Code.HOTKEY_NOT_REGISTERED_IN_SUBNET,
    15: Code.INVALID_REVEAL_ROUND,
    16: Code.NO_WEIGHTS_COMMIT_FOUND,
    17: Code.REVEAL_TOO_EARLY,
    19: Code.HOTKEY_NOT_REGISTERED_IN_SUBNET,
}


@pytest.mark.parametrize("number", POOL)
def test_the_pools_numbers(number: int):
    name = error_map.CUSTOM_TRANSACTION_ERRORS[number]
    error = as_chain_error(sdk.ChainError("said", name), what="weights call")
    assert error.code is POOL[number]
    assert str(error).startswith(f"{error.code}: weights call: ")
    assert name in str(error)


def test_the_kind_of_the_call_names_the_rate_limit():
    error = as_chain_error(sdk.ChainError("x", "RateLimitExceeded"), what="call", commits=True)
    assert error.code is Code.COMMITTING_WEIGHTS_TOO_FAST


PALLET = [code for code in Code if code.value in error_map.NAME_TO_CODE]


def test_most_of_our_names_are_the_sdks():
    assert len(PALLET) >= 22


@pytest.mark.parametrize("code", PALLET)
def test_the_pallets_names(code: Code):
    assert as_chain_error(sdk.ChainError("docs", code.value), what="call").code is code


@pytest.mark.parametrize("name", [name for _, name in error_map.INVALID_TRANSACTION_ERRORS])
def test_every_name_of_the_pool_has_a_code(name: str):
    error = as_chain_error(sdk.ChainError("said", name), what="call")
    expected = {"Stale": Code.STALE, "BadProof": Code.BAD_PROOF, "Payment": Code.PAYMENT}
    assert error.code in (expected.get(name), Code.NOT_INCLUDED, Code.CALL_REFUSED)
    assert name in str(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (sdk.ChainError("docs", "CommitPayloadTooLarge"), Code.CALL_REFUSED),
        (sdk.RpcConnectionError("no route"), Code.UNREACHABLE),
        (sdk.RpcPolicyError("HTTP 429", status_code=429), Code.UNREACHABLE),
        (sdk.ConnectionNotReady("not open"), Code.UNREACHABLE),
        (ConnectionResetError("reset"), Code.UNREACHABLE),
        (TimeoutError(), Code.UNREACHABLE),
        (sdk.ChainError("Connection lost while waiting for a subscription"), Code.UNREACHABLE),
        (sdk.ChainError("Connection dropped while an extrinsic was"), Code.UNREACHABLE),
        (sdk.ChainError("State discarded for 0x12"), Code.UNKNOWN_BLOCK),
        (sdk.ChainError("no block at height 9"), Code.UNKNOWN_BLOCK),
        (sdk.ChainError("something else"), Code.UNEXPECTED),
        (KeyError("a field"), Code.UNEXPECTED),
    ],
)
def test_other_failures(error: Exception, code: Code):
    assert as_chain_error(error, what="call").code is code


def test_an_error_without_words_still_says_what_it_was():
    assert "TimeoutError" in str(as_chain_error(TimeoutError(), what="call"))


def test_the_documentation_lists_every_code():
    page = (Path(__file__).parents[3] / "docs" / "chain.md").read_text()
    missing = [
        code.value for code in Code if f"| `{code.value}` | {code.retry.value} |" not in page
    ]
    assert missing == []
