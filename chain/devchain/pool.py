"""Extrinsics that wait for a block. Bounded; no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from chain.devchain.errors import PoolRefusedError
from chain.devchain.extrinsics import Extrinsic

CAPACITY = 4096
ALREADY_IMPORTED = 1013
PRIORITY_TOO_LOW = 1014
FULL = 1016


@dataclass(frozen=True, slots=True)
class Waiting:
    """An extrinsic whose signature was checked against the block at which its life begins."""

    extrinsic: Extrinsic
    birth: int
    birth_hash: bytes


class Pool:
    """Waiting extrinsics, one for each account and nonce."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[bytes, int], Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def check_room(self, extrinsic: Extrinsic) -> None:
        """Raise `PoolRefusedError` if there is no place for it."""
        found = self._waiting.get((extrinsic.signer, extrinsic.nonce))
        if found is None:
            if len(self._waiting) >= CAPACITY:
                raise PoolRefusedError(FULL, "Immediately Dropped", "The pool is full")
            return
        if found.extrinsic.hash == extrinsic.hash:
            raise PoolRefusedError(
                ALREADY_IMPORTED, "Transaction is already imported", "0x" + extrinsic.hash.hex()
            )
        raise PoolRefusedError(
            PRIORITY_TOO_LOW,
            "Priority is too low",
            "The transaction has too low priority to replace another one already in the pool.",
        )

    def add(self, waiting: Waiting) -> None:
        """Let it wait. The caller has asked `check_room`, or puts back what had its place."""
        self._waiting[waiting.extrinsic.signer, waiting.extrinsic.nonce] = waiting

    def remove(self, waiting: Waiting) -> None:
        """Forget it."""
        self._waiting.pop((waiting.extrinsic.signer, waiting.extrinsic.nonce), None)

    def in_order(self) -> list[Waiting]:
        """Return what waits: an account's lower nonces first, otherwise as it came."""
        return sorted(self._waiting.values(), key=lambda one: one.extrinsic.nonce)

    def next_nonce(self, account: bytes, nonce: int) -> int:
        """Return the first nonce from `nonce` on for which nothing of `account` waits."""
        while (account, nonce) in self._waiting:
            nonce += 1
        return nonce
