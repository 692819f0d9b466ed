"""The runtime's own interfaces, as `state_call` reaches them. Pure.

Rules:
1. Names, parameters and results are those of the metadata. What this chain has no notion of (money,
   emission, axons) is zero or empty.
2. Weight calls cost nothing, so every fee is 0.
"""

from __future__ import annotations

from typing import Any

from chain.devchain.epochs import next_epoch_block
from chain.devchain.errors import RpcError
from chain.devchain.metadata import Codec
from chain.devchain.scale import Reader, ScaleError, compact
from chain.devchain.state import State
from protocol.identity import ss58_of

UNKNOWN_CALL = 4003
_METADATA_VERSION = 15
_SUBNETS = "SubnetInfoRuntimeApi"
_NAME = "devchain"


def runtime_call(name: str, params: bytes, state: State, codec: Codec) -> bytes:
    """Return the encoded result of interface_method `name`; `RpcError` if there is none."""
    if name.startswith("Metadata_"):
        return _metadata(name, params, codec)
    try:
        return _answer(name, Reader(params), state, codec)
    except ScaleError as error:
        raise RpcError(UNKNOWN_CALL, f"{name}: {error}") from error


def _metadata(name: str, params: bytes, codec: Codec) -> bytes:
    whole = compact(len(codec.metadata)) + codec.metadata
    if name == "Metadata_metadata_at_version":
        wanted = int.from_bytes(params[:4], "little")
        return b"\x01" + whole if wanted == _METADATA_VERSION else b"\x00"
    if name == "Metadata_metadata_versions":
        return compact(1) + _METADATA_VERSION.to_bytes(4, "little")
    raise _unknown(name)


def _answer(name: str, params: Reader, state: State, codec: Codec) -> bytes:
    api, _, method = name.partition("_")
    if (api, method) == ("AccountNonceApi", "account_nonce"):
        account = state.account(params.take(32, "account"))
        return codec.result(api, method, 0 if account is None else account.nonce)
    if (api, method) == ("TransactionPaymentApi", "query_info"):
        weight = {"ref_time": 0, "proof_size": 0}
        return codec.result(api, method, {"weight": weight, "class": "Normal", "partial_fee": 0})
    builders = {
        "get_metagraph": _metagraph,
        "get_subnet_hyperparams_v3": _hyperparameters,
        "get_next_epoch_start_block": next_epoch_block,
    }
    if api != _SUBNETS or method not in builders:
        raise _unknown(name)
    here = params.integer(2, "netuid") == state.netuid
    return codec.result(api, method, builders[method](state) if here else None)


def _unknown(name: str) -> RpcError:
    return RpcError(
        UNKNOWN_CALL,
        "Client error: Execution failed",
        f"Exported method {name} is not found",
    )


def _hyperparameters(state: State) -> list[dict[str, Any]]:
    rules = state.rules
    figures: dict[str, dict[str, object]] = {
        "tempo": {"U16": rules.tempo},
        "min_allowed_weights": {"U16": rules.min_allowed_weights},
        "max_weights_limit": {"U16": rules.max_weight_limit},
        "weights_version": {"U64": rules.version_key},
        "weights_rate_limit": {"U64": rules.weights_rate_limit},
        "commit_reveal_period": {"U64": rules.reveal_period},
        "commit_reveal_weights_enabled": {"Bool": rules.commit_reveal},
        "subnet_is_active": {"Bool": True},
    }
    return [{"name": name, "value": value} for name, value in figures.items()]


def _metagraph(state: State) -> dict[str, Any]:
    return {**_nothing(), **_subnet(state), **_columns(state)}


def _subnet(state: State) -> dict[str, Any]:
    rules, epochs = state.rules, state.epochs
    return {
        "netuid": state.netuid,
        "name": list(_NAME.encode()),
        "symbol": list("β".encode()),
        "identity": None,
        "owner_hotkey": ss58_of(state.owner_hotkey),
        "owner_coldkey": ss58_of(state.owner_coldkey),
        "block": state.block,
        "tempo": rules.tempo,
        "last_step": epochs.last_block,
        "blocks_since_last_step": epochs.blocks_since_step,
        "min_allowed_weights": rules.min_allowed_weights,
        "max_weights_limit": rules.max_weight_limit,
        "weights_version": rules.version_key,
        "weights_rate_limit": rules.weights_rate_limit,
        "num_uids": len(state.neurons),
        "max_uids": max(256, len(state.neurons)),
        "max_validators": sum(one.validator_permit for one in state.neurons),
        "commit_reveal_weights_enabled": rules.commit_reveal,
        "commit_reveal_period": rules.reveal_period,
        "registration_allowed": False,
        "pow_registration_allowed": False,
        "liquid_alpha_enabled": False,
        "moving_price": {"bits": 0},
    }


def _columns(state: State) -> dict[str, Any]:
    """Return what the metagraph has one of for each uid."""
    nothing = [0] * len(state.neurons)
    known = {account.key: account for account in state.accounts}
    accounts = [known[one.hotkey] for one in state.neurons]
    axon = dict.fromkeys(
        ("block", "version", "ip", "port", "ip_type", "protocol", "placeholder1", "placeholder2"), 0
    )
    return {
        "hotkeys": [ss58_of(one.hotkey) for one in state.neurons],
        "coldkeys": [ss58_of(one.coldkey) for one in state.neurons],
        "identities": [None for _ in state.neurons],
        "axons": [axon for _ in state.neurons],
        "active": [True for _ in state.neurons],
        "validator_permit": [one.validator_permit for one in state.neurons],
        "last_update": [state.last_update(uid, 0) for uid in range(len(state.neurons))],
        "block_at_registration": [one.registered_at for one in state.neurons],
        "alpha_stake": [account.alpha_stake for account in accounts],
        "tao_stake": [account.root_stake for account in accounts],
        "total_stake": [account.stake for account in accounts],
        "tao_dividends_per_hotkey": [],
        "alpha_dividends_per_hotkey": [],
    } | dict.fromkeys(_EMPTY_COLUMNS, nothing)


_EMPTY_COLUMNS = (
    "pruning_score", "emission", "dividends", "incentives", "consensus", "trust", "rank",
    "collateral_locked", "collateral_min", "collateral_earned",
)  # fmt: skip

_ZEROES = (
    "network_registered_at", "subnet_emission", "alpha_in", "alpha_out", "tao_in",
    "alpha_out_emission", "alpha_in_emission", "tao_in_emission", "pending_alpha_emission",
    "pending_root_emission", "subnet_volume", "rho", "kappa", "activity_cutoff", "burn",
    "difficulty", "immunity_period", "min_difficulty", "max_difficulty", "min_burn", "max_burn",
    "adjustment_alpha", "adjustment_interval", "target_regs_per_interval", "max_regs_per_block",
    "serving_rate_limit", "alpha_high", "alpha_low", "bonds_moving_avg",
)  # fmt: skip


def _nothing() -> dict[str, Any]:
    return dict.fromkeys(_ZEROES, 0)
