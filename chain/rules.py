"""The chain's checks on a weights call, as one pure function.

Rules:
1. The order is the chain's (pallet subtensor, `set_weights`): of several faults, the first in this
   order is the one reported. Both the embedded chain and the preflight ask here, so that what a
   preflight foretells is what the chain then says.
2. A check changes nothing. Every message names the fault, the figure and what to do.
3. With commit-reveal the chain applies the rate limit to the commit instead, and checks what is
   revealed later like a plain call but for that limit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import MAX_WEIGHT, Metagraph, Neuron, WeightVector
from chain.weights import chain_upscale
from protocol.identity import ss58_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_FRACTION_BITS = 32


@dataclass(frozen=True, slots=True)
class CallUnderCheck:
    """A weights call with what the chain knows about it when it comes to execute it.

    `block` is the block that would include it, `last_update` the hotkey's last one for
    `mechanism` (0: never), `rate_limit` in blocks.
    """

    hotkey: bytes
    uids: tuple[int, ...]
    values: tuple[int, ...]
    mechanism: int
    version_key: int
    block: int
    last_update: int
    rate_limit: int


def checked_weights(metagraph: Metagraph, call: CallUnderCheck) -> WeightVector:
    """Return what the chain would store for `call`; raises `ChainError` for the first fault."""
    _check_shape(metagraph, call)
    neuron = _check_caller(metagraph, call)
    if not metagraph.rules.commit_reveal:
        _check_rate(call)
    _check_permit(metagraph, call, neuron)
    return _check_vector(metagraph, call, neuron)


def blocks_until_allowed(last_update: int, block: int, rate_limit: int) -> int:
    """Return how many blocks a hotkey must still wait: 0 if it may call at `block`.

    The chain asks block - last_update >= rate_limit, and lets a hotkey through that has never set
    weights (last_update 0). By hand: last 100, limit 10, block 104 -> 6.
    """
    if last_update == 0:
        return 0
    return max(0, rate_limit - max(0, block - last_update))


def _check_shape(metagraph: Metagraph, call: CallUnderCheck) -> None:
    if len(call.uids) != len(call.values):
        raise ChainError(
            Code.WEIGHT_VEC_NOT_EQUAL_SIZE,
            f"{len(call.uids)} uids but {len(call.values)} values; send one value for each uid",
        )
    mechanisms = metagraph.rules.mechanisms
    if not 0 <= call.mechanism < mechanisms:
        raise ChainError(
            Code.MECHANISM_DOES_NOT_EXIST,
            f"mechanism {call.mechanism}, subnet {metagraph.netuid} has {mechanisms}; "
            f"use 0 to {mechanisms - 1}",
        )
    if len(call.uids) > len(metagraph.neurons):
        raise ChainError(
            Code.UIDS_LENGTH_EXCEED_UIDS_IN_SUBNET,
            f"{len(call.uids)} uids, subnet {metagraph.netuid} has {len(metagraph.neurons)}; "
            "name each neuron at most once",
        )


def _check_caller(metagraph: Metagraph, call: CallUnderCheck) -> Neuron:
    neuron = metagraph.by_hotkey(call.hotkey)
    if neuron is None:
        raise ChainError(
            Code.HOTKEY_NOT_REGISTERED_IN_SUBNET,
            f"hotkey {ss58_of(call.hotkey)} is not registered in subnet {metagraph.netuid}; "
            "register it, or check which hotkey this node uses",
        )
    rules = metagraph.rules
    if neuron.stake < rules.min_stake and call.hotkey != metagraph.owner_hotkey:
        raise ChainError(
            Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS,
            f"uid {neuron.uid} has a stake of {neuron.stake} rao, {rules.min_stake} is needed; "
            f"add {rules.min_stake - neuron.stake}",
        )
    if rules.version_key != 0 and call.version_key < rules.version_key:
        raise ChainError(
            Code.INCORRECT_WEIGHT_VERSION_KEY,
            f"version key {call.version_key}, subnet {metagraph.netuid} asks for "
            f"{rules.version_key} or more; send the subnet's version key",
        )
    return neuron


def _check_rate(call: CallUnderCheck) -> None:
    wait = blocks_until_allowed(call.last_update, call.block, call.rate_limit)
    if wait > 0:
        raise ChainError(
            Code.SETTING_WEIGHTS_TOO_FAST,
            f"weights were set at block {call.last_update}, it is block {call.block} and "
            f"{call.rate_limit} blocks must lie between; wait {wait} blocks",
            wait_blocks=wait,
        )


def _is_self_weight(call: CallUnderCheck, neuron: Neuron) -> bool:
    return len(call.values) == 1 and call.uids[0] == neuron.uid


def _check_permit(metagraph: Metagraph, call: CallUnderCheck, neuron: Neuron) -> None:
    exempt = _is_self_weight(call, neuron) or call.hotkey == metagraph.owner_hotkey
    if not neuron.validator_permit and not exempt:
        raise ChainError(
            Code.NEURON_NO_VALIDATOR_PERMIT,
            f"uid {neuron.uid} has no validator permit at block {metagraph.block.number} "
            f"(stake {neuron.stake} rao); permits are given at epochs to the largest stakes",
        )


def _check_vector(metagraph: Metagraph, call: CallUnderCheck, neuron: Neuron) -> WeightVector:
    repeated = sorted(uid for uid, count in Counter(call.uids).items() if count > 1)
    if repeated:
        raise ChainError(
            Code.DUPLICATE_UIDS, f"uid {repeated[0]} occurs more than once; name each uid once"
        )
    unknown = [uid for uid in call.uids if metagraph.by_uid(uid) is None]
    if unknown:
        raise ChainError(
            Code.UID_VEC_CONTAIN_INVALID_ONE,
            f"uid {unknown[0]} does not exist in subnet {metagraph.netuid} at block "
            f"{metagraph.block.number}; leave it out",
        )
    self_weight = _is_self_weight(call, neuron)
    least = min(metagraph.rules.min_allowed_weights, len(metagraph.neurons))
    if len(call.values) < least and not self_weight:
        raise ChainError(
            Code.WEIGHT_VEC_LENGTH_IS_LOW,
            f"{len(call.values)} weights, subnet {metagraph.netuid} asks for {least} or more",
        )
    stored = chain_upscale(tuple(zip(call.uids, call.values, strict=True)))
    limit = metagraph.rules.max_weight_limit
    if not self_weight and not is_within_limit([value for _, value in stored], limit):
        raise ChainError(
            Code.MAX_WEIGHT_EXCEEDED,
            f"the largest of {len(stored)} weights is above {limit}/65535 of their sum; "
            "spread the weights or lower the largest",
        )
    return stored


def is_within_limit(values: Sequence[int], limit: int) -> bool:
    """Return whether the largest of the normalised values is at most limit / 65535.

    As subtensor's `check_vec_max_limited`: both ratios truncate at 32 fractional bits (I32F32).
    A `limit` of 65535 is no bound.
    """
    total = sum(values)
    if limit == MAX_WEIGHT or total == 0:
        return True
    return (max(values) << _FRACTION_BITS) // total <= (limit << _FRACTION_BITS) // MAX_WEIGHT
