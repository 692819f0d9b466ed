"""What people write: the subnet to begin with, and how the chain runs. TOML or keywords."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from chain.devchain.changes import with_rule
from chain.devchain.errors import DevChainError
from chain.devchain.state import MAX_UIDS, Account, Hyperparameters, Registration, State
from protocol.errors import KeyFormatError
from protocol.identity import hotkey_of
from protocol.text import decode_text

_FILE_LIMIT = 16 * 1024 * 1024
_U64 = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NeuronConfig(_Written):
    """One neuron; its uid is its place in the list. Addresses in ss58, stake in rao."""

    hotkey: str
    coldkey: str | None = None
    stake: _U64 = 0
    root_stake: _U64 = 0
    validator_permit: bool = False


class SubnetConfig(_Written):
    """The subnet at block 0.

    `owner` is the owner's hotkey, by default that of uid 0. `rules` are the fields of
    `chain.devchain.state.Hyperparameters`. `accounts` may send extrinsics without being registered.
    """

    netuid: int = Field(default=2, ge=1, lt=4096)
    neurons: tuple[NeuronConfig, ...] = Field(min_length=1, max_length=MAX_UIDS)
    owner: str | None = None
    owner_coldkey: str | None = None
    accounts: tuple[str, ...] = ()
    rules: dict[str, Any] = Field(default_factory=dict)


class RunConfig(_Written):
    """How the chain runs: where it listens, how fast it is, what it keeps.

    Port 0 is any free one; the admin port is by default the next one, or any free one as well.
    `block_time_ms` is also what the metadata says. A block is final `finality_lag` blocks later.
    The state of a block is answered for as long as it is among the last `kept_states`; later
    requests get the answer of a node that has discarded it.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9944, ge=0, le=65535)
    admin_port: int | None = Field(default=None, ge=0, le=65535)
    block_time_ms: int = Field(default=1000, ge=10, le=600_000)
    finality_lag: int = Field(default=1, ge=0, le=100)
    kept_states: int = Field(default=256, ge=1, le=4096)
    state_file: Path | None = None


def load_subnet(path: Path) -> SubnetConfig:
    """Return the subnet that a TOML file describes; `DevChainError` if it does not."""
    try:
        return SubnetConfig.model_validate(_table(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DevChainError(f"{path}: {where}: {first['msg']}") from error


def _table(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        if len(data) > _FILE_LIMIT:
            raise DevChainError(f"{path}: has more than {_FILE_LIMIT:,} bytes")
        return tomllib.loads(decode_text(data))
    except OSError as error:
        raise DevChainError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or beyond Python's limits
        raise DevChainError(f"{path}: {error}") from error


def genesis_state(subnet: SubnetConfig, block_time_ms: int) -> State:
    """Return the state of block 0; `DevChainError` for addresses or rules that make no sense."""
    try:
        return _genesis(subnet, block_time_ms)
    except KeyFormatError as error:
        raise DevChainError(str(error)) from error


def _genesis(subnet: SubnetConfig, block_time_ms: int) -> State:
    hotkeys = [hotkey_of(one.hotkey) for one in subnet.neurons]
    if len(set(hotkeys)) != len(hotkeys):
        raise DevChainError(f"{len(hotkeys)} neurons, {len(set(hotkeys))} different hotkeys")
    owner = hotkeys[0] if subnet.owner is None else hotkey_of(subnet.owner)
    coldkey = owner if subnet.owner_coldkey is None else hotkey_of(subnet.owner_coldkey)
    accounts = {
        key: Account(key=key, alpha_stake=one.stake, root_stake=one.root_stake)
        for key, one in zip(hotkeys, subnet.neurons, strict=True)
    }
    neurons = tuple(
        Registration(
            hotkey=key,
            coldkey=key if one.coldkey is None else hotkey_of(one.coldkey),
            validator_permit=one.validator_permit,
        )
        for key, one in zip(hotkeys, subnet.neurons, strict=True)
    )
    others = [owner, coldkey, *(one.coldkey for one in neurons), *map(hotkey_of, subnet.accounts)]
    for key in others:
        accounts.setdefault(key, Account(key=key))
    state = State(
        netuid=subnet.netuid,
        owner_hotkey=owner,
        owner_coldkey=coldkey,
        block_time_ms=block_time_ms,
        accounts=tuple(accounts.values()),
        neurons=neurons,
        rules=Hyperparameters(),
    )
    for name, value in subnet.rules.items():
        state = with_rule(state, name, value)
    return state
