"""How the chain says no. Nothing here leaves the package but through JSON-RPC and events."""

from __future__ import annotations

from protocol.errors import KeyFormatError

INVALID_TRANSACTION = 1010
"""The pool's JSON-RPC error code for an extrinsic that is not valid (now)."""

MALFORMED = (TypeError, ValueError, AttributeError, LookupError, OverflowError, KeyFormatError)
"""What parameters of the wrong kind or size raise where they are first used."""


class DispatchRefusedError(Exception):
    """An included call failed; `name` is the pallet's error, which the block's event carries."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class RpcError(Exception):
    """A JSON-RPC error answer. `data` is what substrate nodes put there."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(f"{code}: {message}" + ("" if data is None else f" ({data})"))
        self.code = code
        self.message = message
        self.data = data


class PoolRefusedError(RpcError):
    """The pool did not take an extrinsic, or no longer holds it valid."""


def invalid(reason: str) -> PoolRefusedError:
    """Return the pool's refusal, with the words that substrate nodes use for it."""
    return PoolRefusedError(INVALID_TRANSACTION, "Invalid Transaction", reason)


def custom(number: int) -> PoolRefusedError:
    """Return the pool's refusal with one of subtensor's own numbers."""
    return invalid(f"Custom error: {number}")


class DevChainError(Exception):
    """The development chain was told something it cannot do; the message says what and why."""
