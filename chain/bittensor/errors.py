"""What the SDK and the chain say, as this node's codes. Pure, but for looking at the SDK's classes.

Rules:
1. The chain's own name decides, whether the pool or a block said it. The pool has fewer names than
   the chain (one for both rate limits), so the kind of the call completes them.
2. A refusal in a block whose name is unknown here is `call_refused`: the same call is refused
   again. A failure that does not say whether the call landed is one that is read about first.
3. The SDK's words are kept in the message, and what to do is added.
"""

from __future__ import annotations

import importlib
from typing import Any

from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code

_POOL_NAMES = {
    "StakeAmountTooLow": Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS,
    "HotKeyNotRegisteredInNetwork": Code.HOTKEY_NOT_REGISTERED_IN_SUBNET,
    "HotKeyAccountNotExists": Code.HOTKEY_NOT_REGISTERED_IN_SUBNET,
    # Out of the running, with nothing said about the call itself; it may be in a block already.
    **dict.fromkeys(
        (
            "Future", "AncientBirthBlock", "ExhaustsResources", "PriorityTooLow", "AlreadyImported",
            "Dropped", "Usurped", "Invalid", "Retracted", "FinalityTimeout", "CannotLookup",
        ),
        Code.NOT_INCLUDED,
    ),
}  # fmt: skip

_ADVICE = {
    Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS: "add stake to the hotkey",
    Code.HOTKEY_NOT_REGISTERED_IN_SUBNET: "register the hotkey in the subnet",
    Code.NEURON_NO_VALIDATOR_PERMIT: "permits are given at epochs to the largest stakes",
    Code.INCORRECT_WEIGHT_VERSION_KEY: "send the version key that the subnet asks for now",
    Code.INCORRECT_COMMIT_REVEAL_VERSION: "upgrade this node",
    Code.SETTING_WEIGHTS_TOO_FAST: "wait for the rate limit",
    Code.COMMITTING_WEIGHTS_TOO_FAST: "wait for the rate limit",
    Code.TOO_MANY_UNREVEALED_COMMITS: "wait for the next epoch's reveals",
    Code.NOT_INCLUDED: "read what the chain stores before sending again",
    Code.STALE: "read what the chain stores before sending again",
    Code.PAYMENT: "give the hotkey's account the existential deposit",
    Code.UNREACHABLE: "check the endpoint and the way to it",
    Code.UNKNOWN_BLOCK: "ask for a newer block, or configure an archive endpoint",
    Code.CALL_REFUSED: "this node does not know that refusal; look the name up",
    Code.UNEXPECTED: "the runtime may have been upgraded; check for a newer version of this node",
}

_LOST = ("connection lost", "connection dropped", "rpc session closed", "ended without reaching")
_UNKNOWN_BLOCK = ("state discarded", "no block at height", "block not found", "unknownblock")


def as_chain_error(error: BaseException, *, what: str, commits: bool = False) -> ChainError:
    """Return the `ChainError` for what the SDK raised, or put into its result, during `what`.

    `commits` tells whether a commit was sent, which the pool's name for a rate limit does not.
    """
    code = _code_of(error, commits=commits)
    name = getattr(error, "name", None)
    detail = " ".join(str(error).split()) or type(error).__name__
    named = f"{name}: " if isinstance(name, str) and name != code.value else ""
    advice = _ADVICE.get(code)
    return ChainError(code, f"{what}: {named}{detail}" + (f"; {advice}" if advice else ""))


def _code_of(error: BaseException, *, commits: bool) -> Code:
    sdk: Any = importlib.import_module("bittensor.result")
    if isinstance(error, sdk.ChainError):
        return _code_named(error, commits=commits)
    if isinstance(error, (sdk.RpcConnectionError, sdk.ConnectionNotReady, OSError)):
        return Code.UNREACHABLE
    return Code.UNEXPECTED


def _code_named(error: Any, *, commits: bool) -> Code:  # noqa: ANN401 - the SDK's class, imported late
    name, text = error.name, str(error).casefold()
    if name is None:
        if any(needle in text for needle in _LOST):
            return Code.UNREACHABLE
        if any(needle in text for needle in _UNKNOWN_BLOCK):
            return Code.UNKNOWN_BLOCK
        return Code.UNEXPECTED
    if name == "RateLimitExceeded":
        return Code.COMMITTING_WEIGHTS_TOO_FAST if commits else Code.SETTING_WEIGHTS_TOO_FAST
    if name in _POOL_NAMES:
        return _POOL_NAMES[name]
    try:
        return Code(name)
    except ValueError:
        return Code.CALL_REFUSED
