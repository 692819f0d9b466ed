"""The calls that the chain knows: what its pool refuses, what it refuses itself, what changes.

Rules:
1. The pool asks first (subtensor's transaction extension): minimum stake, then a reveal's turn or
   a commit's drand round, then the rate limit. What it refuses never gets into a block and comes
   as one number. The chain asks again, and more, when it executes the call; what it refuses then
   is in a block, has used up the nonce and is named by an event.
2. The order of the chain's own checks is that of `chain.rules`, after commit-reveal itself.
3. Every other call fails as `CallFiltered`; `System.remark` succeeds and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chain.devchain.commits import (
    Weights,
    applied,
    commit_hash,
    find_hash,
    revealed_by_owner,
    with_hash,
    with_timelocked,
)
from chain.devchain.epochs import current_epoch
from chain.devchain.errors import DispatchRefusedError, custom
from chain.devchain.metadata import PALLET
from chain.devchain.scale import Reader, blake2_256
from chain.devchain.state import HashCommit, State, TimelockedCommit
from chain.rules import blocks_until_allowed
from protocol.identity import ss58_of

Event = dict[str, Any]
Arguments = dict[str, Any]

POOL_STAKE_TOO_LOW = 1
POOL_RATE_LIMIT = 6
POOL_REVEAL_ROUND = 15
POOL_COMMIT_NOT_FOUND = 16
POOL_NOT_IN_REVEAL_RANGE = 17

_SETS = {"set_weights", "set_mechanism_weights"}
_TIMELOCKS = {"commit_timelocked_weights", "commit_timelocked_mechanism_weights"}
_HASHES = {"commit_weights", "commit_mechanism_weights"}
_REVEALS = {"reveal_weights", "reveal_mechanism_weights"}
WEIGHT_CALLS = frozenset(_SETS | _TIMELOCKS | _HASHES | _REVEALS)


@dataclass(frozen=True, slots=True)
class Call:
    """A decoded call and who signed it."""

    module: str
    function: str
    arguments: Arguments
    hotkey: bytes
    data: bytes

    @classmethod
    def decoded(cls, call: dict[str, Any], data: bytes, hotkey: bytes) -> Call:
        """Return the call that `Codec.call` made of `data`."""
        arguments = {one["name"]: one["value"] for one in call["call_args"]}
        return cls(call["call_module"], call["call_function"], arguments, hotkey, data)

    @property
    def sets_weights(self) -> bool:
        """Whether it is one of the weight calls that this chain knows."""
        return self.module == PALLET and self.function in WEIGHT_CALLS

    @property
    def mechanism(self) -> int:
        """The mechanism it is for; calls without one are for mechanism 0."""
        return int(self.arguments.get("mecid", 0))

    @property
    def ciphertext(self) -> bytes:
        """What a timelocked commit carries, read from the call itself.

        The codec shows bytes as text or as hexadecimal, whichever fits, so it cannot be asked.
        """
        reader = Reader(self.data)
        reader.take(2, "call index")
        reader.take(3 if "mecid" in self.arguments else 2, "subnet and mechanism")
        return reader.vec_u8("commit")

    @property
    def weights(self) -> Weights:
        """The vector of a call that carries one openly."""
        arguments = self.arguments
        return Weights(
            hotkey=self.hotkey,
            mechanism=self.mechanism,
            uids=tuple(arguments["dests" if "dests" in arguments else "uids"]),
            values=tuple(arguments["weights" if "weights" in arguments else "values"]),
            version_key=int(arguments["version_key"]),
        )


def check_in_pool(state: State, call: Call, block: int) -> None:
    """Raise `PoolRefusedError` if the pool would refuse the call, were it included in `block`."""
    if not call.sets_weights:
        return
    owner = call.hotkey == state.owner_hotkey
    if state.stake_of(call.hotkey) < state.rules.min_stake and not owner:
        raise custom(POOL_STAKE_TOO_LOW)
    if call.function in _REVEALS:
        _check_reveal_in_pool(state, call, block)
    if call.function in _TIMELOCKS:
        newest = max((pulse.round for pulse in state.pulses), default=0)
        if int(call.arguments["reveal_round"]) < newest:
            raise custom(POOL_REVEAL_ROUND)
    uid = state.uid_of(call.hotkey)
    limited = call.function in _TIMELOCKS | _HASHES or (
        call.function in _SETS and not state.rules.commit_reveal
    )
    if uid is None or not limited:
        return
    last_update = state.last_update(uid, call.mechanism)
    if blocks_until_allowed(last_update, block, state.rules.weights_rate_limit) > 0:
        raise custom(POOL_RATE_LIMIT)


def _check_reveal_in_pool(state: State, call: Call, block: int) -> None:
    digest = commit_hash(state, call.weights, tuple(call.arguments["salt"]))
    commit = find_hash(state, call.hotkey, call.mechanism, digest)
    if commit is None:
        raise custom(POOL_COMMIT_NOT_FOUND)
    if current_epoch(state, block) != commit.epoch + state.rules.reveal_period:
        raise custom(POOL_NOT_IN_REVEAL_RANGE)


def dispatched(state: State, call: Call, block: int) -> tuple[State, tuple[Event, ...]]:
    """Return the state after the call and its events; raises `DispatchRefusedError`."""
    if (call.module, call.function) == ("System", "remark"):
        return state, ()
    handler = _HANDLERS.get(call.function) if call.module == PALLET else None
    if handler is None:
        raise DispatchRefusedError("CallFiltered", f"{call.module}.{call.function}")
    return handler(state, call, block)


def _set(state: State, call: Call, block: int) -> tuple[State, tuple[Event, ...]]:
    if state.rules.commit_reveal:
        raise DispatchRefusedError("CommitRevealEnabled", "weights must be committed")
    wanted = call.weights
    if call.arguments["netuid"] != state.netuid:
        if len(wanted.uids) != len(wanted.values):
            raise DispatchRefusedError("WeightVecNotEqualSize", f"{len(wanted.uids)} uids")
        _require_mechanism(state, call)
    state = applied(state, wanted, block)
    uid = state.uid_of(call.hotkey)
    return state, (event("WeightsSet", state.storage_index(call.mechanism), uid),)


def _commit_timelocked(state: State, call: Call, block: int) -> tuple[State, tuple[Event, ...]]:
    _require_commit_reveal(state, call)
    version = int(call.arguments["commit_reveal_version"])
    if version != state.rules.commit_reveal_version:
        raise DispatchRefusedError(
            "IncorrectCommitRevealVersion",
            f"version {version}, {state.rules.commit_reveal_version} is current",
        )
    commit = TimelockedCommit(
        mechanism=call.mechanism,
        epoch=current_epoch(state, block),
        hotkey=call.hotkey,
        block=block,
        ciphertext=call.ciphertext,
        reveal_round=int(call.arguments["reveal_round"]),
    )
    state = with_timelocked(state, commit)
    made = event(
        "TimelockedWeightsCommitted",
        ss58_of(call.hotkey),
        state.storage_index(call.mechanism),
        "0x" + blake2_256(commit.ciphertext).hex(),
        commit.reveal_round,
    )
    return state, (made,)


def _commit_hash(state: State, call: Call, block: int) -> tuple[State, tuple[Event, ...]]:
    _require_commit_reveal(state, call)
    commit = HashCommit(
        mechanism=call.mechanism,
        epoch=current_epoch(state, block),
        hotkey=call.hotkey,
        block=block,
        digest=bytes.fromhex(call.arguments["commit_hash"][2:]),
    )
    return with_hash(state, commit), (_hash_event("WeightsCommitted", state, call, commit.digest),)


def _reveal_hash(state: State, call: Call, block: int) -> tuple[State, tuple[Event, ...]]:
    _require_commit_reveal(state, call)
    salt = tuple(call.arguments["salt"])
    digest = commit_hash(state, call.weights, salt)
    state = revealed_by_owner(state, call.weights, salt, block)
    return state, (_hash_event("WeightsRevealed", state, call, digest),)


def _require_mechanism(state: State, call: Call) -> None:
    exists = call.arguments["netuid"] == state.netuid and call.mechanism < state.rules.mechanisms
    if not exists:
        raise DispatchRefusedError(
            "MechanismDoesNotExist",
            f"mechanism {call.mechanism} of subnet {call.arguments['netuid']}",
        )


def _require_commit_reveal(state: State, call: Call) -> None:
    _require_mechanism(state, call)
    if not state.rules.commit_reveal:
        raise DispatchRefusedError("CommitRevealDisabled", "weights are set openly here")


def _hash_event(name: str, state: State, call: Call, digest: bytes) -> Event:
    index = state.storage_index(call.mechanism)
    return event(name, ss58_of(call.hotkey), index, "0x" + digest.hex())


def event(name: str, *fields: object) -> Event:
    """Return one of the pallet's events, as the codec wants it."""
    return {PALLET: {name: list(fields)}}


Handler = Callable[[State, Call, int], tuple[State, tuple[Event, ...]]]
_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_SETS, _set),
    **dict.fromkeys(_TIMELOCKS, _commit_timelocked),
    **dict.fromkeys(_HASHES, _commit_hash),
    **dict.fromkeys(_REVEALS, _reveal_hash),
}
