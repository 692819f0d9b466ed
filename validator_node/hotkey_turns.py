"""A queue in which hotkeys take turns: however many of one wait, the next of another comes soon."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class HotkeyTurns(Generic[T]):
    """What waits, by hotkey; of one hotkey in the order it came."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[bytes, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, hotkey: bytes, item: T) -> None:
        """Queue an item of a hotkey."""
        self._waiting.setdefault(hotkey, deque()).append(item)

    def take(self) -> T:
        """Remove the next item; the others of its hotkey wait for a round. Raises `IndexError`."""
        if not self._waiting:
            raise IndexError("nothing waits")
        hotkey, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[hotkey] = items
        return item
