"""The knobs by JSON-RPC: `dev_*` methods, for tests in other processes and for people. Pure.

A change of the subnet makes a block of its own, so it is visible when the method returns.

| method | parameters |
|---|---|
| `dev_status` | none |
| `dev_set` | name of a knob (`Knobs`), value |
| `dev_failNext` | method ("" for any), code, message, data or null, count |
| `dev_jump` | how many blocks to make at once |
| `dev_reorg` | depth, whether the extrinsics are lost |
| `dev_stake` | hotkey, alpha, root |
| `dev_permit` | hotkey, true or false |
| `dev_rule` | name of a hyperparameter (`Hyperparameters`), value |
| `dev_epochAt` | block |
| `dev_pulse` | drand round, its signature in hexadecimal |
| `dev_register` | hotkey, coldkey |
| `dev_replace` | uid, hotkey, coldkey, whether weights and permit stay |
| `dev_deregister` | hotkey |

Keys are ss58 addresses, stake is in rao.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from chain.devchain import changes
from chain.devchain.errors import MALFORMED, DevChainError, RpcError
from chain.devchain.knobs import ErrorAnswer, Knobs
from chain.devchain.ledger import Ledger, Notice, hexed
from chain.devchain.state import State
from protocol.identity import hotkey_of, ss58_of

INVALID_PARAMS = -32602
METHOD_NOT_FOUND = -32601
_MOST_JUMPED = 200_000

Outcome = tuple[Any, list[Notice]]


class Admin:
    """Turns the knobs of one ledger. Every method returns a result and what happened."""

    def __init__(self, ledger: Ledger, now_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now_ms = now_ms

    def call(self, method: str, params: list[Any]) -> Outcome:
        """Answer a `dev_*` method; `RpcError` if it is unknown or its parameters are wrong."""
        handler = _METHODS.get(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found", ", ".join(sorted(_METHODS)))
        try:
            return handler(self, *params)
        except (DevChainError, *MALFORMED) as error:
            raise RpcError(INVALID_PARAMS, f"{method}: {error}") from error

    def status(self) -> Outcome:
        """Return heights, knobs, the pool's size and the last reveals."""
        ledger = self._ledger
        reveals = [
            {
                "block": block,
                "hotkey": ss58_of(one.hotkey),
                "mechanism": one.mechanism,
                "failure": one.failure,
            }
            for block, one in ledger.reveals
        ]
        return {
            "head": ledger.head.number,
            "final": ledger.final.number,
            "fork": ledger.fork,
            "pool": len(ledger.pool),
            "knobs": asdict(ledger.knobs),
            "reveals": reveals,
        }, []

    def set(self, name: str, value: int) -> Outcome:
        """Set a knob that is a number or yes or no."""
        kinds = {one.name: type(getattr(Knobs(), one.name)) for one in fields(Knobs)}
        if kinds.get(name) not in (bool, int):
            raise DevChainError(f"no knob {name!r}; there are {', '.join(sorted(kinds))}")
        if type(value) is not kinds[name] or value < 0:
            raise DevChainError(f"{name} = {value!r}, want {kinds[name].__name__} of at least 0")
        setattr(self._ledger.knobs, name, value)
        return True, []

    def fail_next(
        self, method: str, code: int, message: str, data: str | None = None, count: int = 1
    ) -> Outcome:
        """Answer the next `count` calls of `method` with an error."""
        self._ledger.knobs.errors.append(ErrorAnswer(code, message, data, method, count))
        return True, []

    def jump(self, blocks: int) -> Outcome:
        """Make `blocks` blocks at once; return the head's number."""
        if not 1 <= blocks <= _MOST_JUMPED:
            raise DevChainError(f"{blocks} blocks, want 1 to {_MOST_JUMPED}")
        notices = self._ledger.jump(blocks, self._now_ms())
        return self._ledger.head.number, notices

    def reorganise(self, depth: int, lose: bool = False) -> Outcome:
        """Take back `depth` blocks and make one more than that; return the new head's hash."""
        notices = self._ledger.reorganise(depth, self._now_ms(), lose=lose)
        return hexed(self._ledger.head.hash), notices

    def stake(self, hotkey: str, alpha: int, root: int = 0) -> Outcome:
        """Set a hotkey's stake."""
        key = hotkey_of(hotkey)
        return self._change(lambda state: changes.with_stake(state, key, alpha, root))

    def permit(self, hotkey: str, permit: bool) -> Outcome:
        """Give or revoke a validator permit."""
        key = hotkey_of(hotkey)
        return self._change(lambda state: changes.with_permit(state, key, permit))

    def rule(self, name: str, value: object) -> Outcome:
        """Set a hyperparameter."""
        return self._change(lambda state: changes.with_rule(state, name, value))

    def epoch_at(self, block: int) -> Outcome:
        """Let the next epoch run at `block` at the latest."""
        return self._change(lambda state: changes.with_pending_epoch(state, block))

    def pulse(self, number: int, signature: str) -> Outcome:
        """Let the chain know a drand round."""
        raw = bytes.fromhex(signature.removeprefix("0x"))
        return self._change(lambda state: changes.with_pulse(state, number, raw))

    def register(self, hotkey: str, coldkey: str) -> Outcome:
        """Register a hotkey under a new uid."""
        keys = hotkey_of(hotkey), hotkey_of(coldkey)
        return self._change(lambda state: changes.registered(state, *keys))

    def replace(self, uid: int, hotkey: str, coldkey: str, inherit: bool = False) -> Outcome:
        """Give a uid to another hotkey."""
        keys = hotkey_of(hotkey), hotkey_of(coldkey)
        return self._change(lambda state: changes.replaced(state, uid, *keys, inherit=inherit))

    def deregister(self, hotkey: str) -> Outcome:
        """Give the hotkey's uid to nobody's key."""
        key = hotkey_of(hotkey)
        return self._change(lambda state: changes.deregistered(state, key))

    def _change(self, change: Callable[[State], State]) -> Outcome:
        notices = self._ledger.produce(self._now_ms(), change)
        return self._ledger.head.number, notices


_METHODS: dict[str, Callable[..., Outcome]] = {
    "dev_status": Admin.status,
    "dev_set": Admin.set,
    "dev_failNext": Admin.fail_next,
    "dev_jump": Admin.jump,
    "dev_reorg": Admin.reorganise,
    "dev_stake": Admin.stake,
    "dev_permit": Admin.permit,
    "dev_rule": Admin.rule,
    "dev_epochAt": Admin.epoch_at,
    "dev_pulse": Admin.pulse,
    "dev_register": Admin.register,
    "dev_replace": Admin.replace,
    "dev_deregister": Admin.deregister,
}
