"""Hotkeys take turns, however many of one wait."""

from __future__ import annotations

import pytest

from validator_node.hotkey_turns import HotkeyTurns


def test_hotkeys_take_turns_and_a_hotkeys_own_keep_their_order() -> None:
    turns: HotkeyTurns[int] = HotkeyTurns()
    for number in range(4):
        turns.add(b"a", number)
    turns.add(b"b", 10)
    turns.add(b"c", 20)
    assert len(turns) == 6
    assert [turns.take() for _ in range(3)] == [0, 10, 20]
    turns.add(b"b", 11)
    assert [turns.take() for _ in range(4)] == [1, 11, 2, 3]
    assert not turns
    with pytest.raises(IndexError, match="nothing waits"):
        turns.take()
