"""What the owners of wanted blobs have cost: their debts, their stalls, and who goes first. Pure.

An owner's debt is the time its tasks had slots beyond what the bytes that came are worth. It fades,
so that nobody is punished for ever, and it is compared in steps, so that a little bad luck is none.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

STEP_S = 2.0
"""Debts within this are equal. A stalled first attempt costs twice as much: its owner comes after
those without debt for `HALF_LIFE_S` at least."""
HALF_LIFE_S = 300.0
MAX_ACCOUNTS = 2_048
"""More than there are hotkeys in a subnet. Those without a task are forgotten, the oldest first."""

Rank = tuple[int, float, int]
"""Steps of debt, when the last turn began, and who came first; the least goes first."""


@dataclass(frozen=True, kw_only=True)
class SlotLimits:
    """What is shared between owners, and how (`slots`)."""

    slots: int = 16
    first_s: float = 4.0
    """How long a first attempt may bring nothing."""
    most_s: float = 16.0
    """How long any attempt may bring nothing."""
    quantum_s: float = 8.0
    """How long one that brings something goes on although others wait."""
    retry_s: float = 2.0
    most_wait_s: float = 16.0
    good_bytes_per_s: float = 512 * 1024
    small_bytes: int = 256 * 1024
    large_bytes: int = 64 * 1024 * 1024
    """The sizes of all longer blobs that are in hand, together."""
    kept_bytes: int = 32 * 1024 * 1024
    """What is kept of parked ones, together."""


@dataclass(slots=True)
class Account:
    """What is remembered of an owner."""

    number: int
    debt_at: float
    debt_s: float = 0.0
    stalls: int = 0
    """In a row, without a delivery between them."""
    not_before: float = 0.0
    last_begun: float = float("-inf")
    tasks: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    """What it wants, in the order to try it."""
    active: Hashable | None = None

    def debt(self, now: float) -> float:
        """Return the debt as it has faded until now, in seconds."""
        return self.debt_s * math.pow(0.5, (now - self.debt_at) / HALF_LIFE_S)

    def charge(self, seconds: float, now: float) -> None:
        """Add to the debt."""
        self.debt_s, self.debt_at = self.debt(now) + seconds, now

    def rank(self, running_s: float, now: float) -> Rank:
        """Return the rank; `running_s` is what its task in hand has cost so far."""
        return int((self.debt(now) + running_s) // STEP_S), self.last_begun, self.number

    def stall(self, limits: SlotLimits, now: float) -> None:
        """Note an attempt that brought nothing in its time."""
        self.stalls += 1
        wait_s = limits.retry_s * 2.0 ** min(self.stalls - 1, 16)
        self.not_before = now + min(limits.most_wait_s, wait_s)

    def patience_s(self, limits: SlotLimits) -> float:
        """Return how long its next attempt may bring nothing."""
        return min(limits.most_s, limits.first_s * 2.0 ** min(self.stalls, 16))

    def is_due(self, now: float) -> bool:
        """Whether it may have a turn."""
        return self.active is None and bool(self.tasks) and self.not_before <= now


class Accounts:
    """The accounts, by owner."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Account] = OrderedDict()
        self._opened = 0

    def __getitem__(self, owner: Hashable) -> Account:
        return self._known[owner]

    def find(self, owner: Hashable) -> Account | None:
        """Return the account of an owner, or None."""
        return self._known.get(owner)

    def open(self, owner: Hashable, now: float) -> Account:
        """Return the account of an owner, a new one if there is none."""
        known = self._known.get(owner)
        if known is None:
            if len(self._known) >= MAX_ACCOUNTS:
                idle = next((name for name, one in self._known.items() if not one.tasks), None)
                self._known.pop(idle, None)
            self._opened += 1
            known = self._known[owner] = Account(self._opened, debt_at=now)
        return known

    def due(self, now: float) -> list[Account]:
        """Return those that may have a turn."""
        return [account for account in self._known.values() if account.is_due(now)]
