"""Changes of the subnet that no call of this chain makes: stake, permits, rules, registrations.

Each is a function from a state to the next one; the block at which it happens is the state's own.
All raise `DevChainError` for what makes no sense.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import asdict, replace

from chain.devchain.errors import DevChainError
from chain.devchain.scale import blake2_256
from chain.devchain.state import (
    MAX_UIDS,
    Account,
    Hyperparameters,
    Pulse,
    Registration,
    State,
    WeightRow,
)
from protocol.identity import ss58_of

_MOST = 1 << 63


def with_stake(state: State, hotkey: bytes, alpha: int, root: int = 0) -> State:
    """Return the state with the hotkey's stake set, in rao; it need not be registered."""
    if not 0 <= alpha < _MOST or not 0 <= root < _MOST:
        raise DevChainError(f"stake {alpha} and {root}: want 0 to {_MOST - 1} rao")
    account = state.account(hotkey) or Account(key=hotkey)
    return state.with_account(replace(account, alpha_stake=alpha, root_stake=root))


def with_permit(state: State, hotkey: bytes, permit: bool) -> State:
    """Return the state with the validator permit given or revoked."""
    uid = _uid(state, hotkey)
    return _with_neuron(state, uid, replace(state.neurons[uid], validator_permit=permit))


def with_rule(state: State, name: str, value: object) -> State:
    """Return the state with one hyperparameter set, by its name in `Hyperparameters`."""
    fields = asdict(state.rules)
    if name not in fields:
        raise DevChainError(f"no hyperparameter {name!r}; there are {', '.join(sorted(fields))}")
    try:
        changed = msgspec.convert([*({**fields, name: value}).values()], Hyperparameters)
    except msgspec.ValidationError as error:
        raise DevChainError(f"{name} = {value!r}: {error}") from error
    return replace(state, rules=changed)


def with_pending_epoch(state: State, block: int) -> State:
    """Return the state in which the next epoch runs at `block` at the latest."""
    if not 0 <= block < _MOST:
        raise DevChainError(f"block {block}: want 0 (none) to {_MOST - 1}")
    return replace(state, epochs=replace(state.epochs, pending_at=block))


def with_pulse(state: State, number: int, signature: bytes) -> State:
    """Return the state that knows the drand round's signature."""
    if not 0 <= number < _MOST:
        raise DevChainError(f"drand round {number}: want 0 to {_MOST - 1}")
    pulse = Pulse(round=number, signature=signature)
    others = tuple(one for one in state.pulses if one.round != number)
    return replace(state, pulses=(*others, pulse))


def registered(state: State, hotkey: bytes, coldkey: bytes) -> State:
    """Return the state with a new uid, whose last update is this block, as on the live chain."""
    if state.uid_of(hotkey) is not None or len(state.neurons) >= MAX_UIDS:
        raise DevChainError(f"{ss58_of(hotkey)} is registered, or all {MAX_UIDS} uids are taken")
    state = _with_known(state, hotkey)
    one = Registration(hotkey=hotkey, coldkey=coldkey, registered_at=state.block)
    state = replace(state, neurons=(*state.neurons, one))
    for mechanism in range(state.rules.mechanisms):
        state = state.with_update(len(state.neurons) - 1, mechanism, state.block)
    return state


def replaced(
    state: State, uid: int, hotkey: bytes, coldkey: bytes, *, inherit: bool = False
) -> State:
    """Return the state in which `hotkey` holds `uid` in the place of the one before.

    The live chain clears the uid's own weights and what others gave it, and takes the permit; with
    `inherit` all of that stays, as it did on older runtimes. The last update stays in both.
    """
    if not 0 <= uid < len(state.neurons):
        raise DevChainError(f"uid {uid}, there are {len(state.neurons)}")
    before = state.neurons[uid]
    if before.hotkey == state.owner_hotkey or state.uid_of(hotkey) is not None:
        raise DevChainError(f"uid {uid} is the owner's, or {ss58_of(hotkey)} has a uid already")
    permit = before.validator_permit and inherit
    one = Registration(
        hotkey=hotkey, coldkey=coldkey, validator_permit=permit, registered_at=state.block
    )
    state = _with_neuron(_with_known(state, hotkey), uid, one)
    if inherit:
        return state
    rows = [row for row in state.weights if row.uid != uid]
    return replace(state, weights=tuple(_without(row, uid) for row in rows))


def deregistered(state: State, hotkey: bytes) -> State:
    """Return the state in which nobody's key has taken the hotkey's uid."""
    uid = _uid(state, hotkey)
    nobody = blake2_256(b"devchain/nobody/" + hotkey + state.block.to_bytes(8, "little"))
    return replaced(state, uid, nobody, nobody)


def _without(row: WeightRow, uid: int) -> WeightRow:
    vector = tuple((target, 0 if target == uid else value) for target, value in row.vector)
    return replace(row, vector=vector)


def _with_neuron(state: State, uid: int, one: Registration) -> State:
    return replace(state, neurons=(*state.neurons[:uid], one, *state.neurons[uid + 1 :]))


def _with_known(state: State, key: bytes) -> State:
    return state if state.account(key) is not None else state.with_account(Account(key=key))


def _uid(state: State, hotkey: bytes) -> int:
    uid = state.uid_of(hotkey)
    if uid is None:
        raise DevChainError(f"{ss58_of(hotkey)} is not registered")
    return uid
