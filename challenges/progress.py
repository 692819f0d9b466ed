"""One line before a long step, so that silence is never taken for a hang."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes a line for people: what begins now, and about how long it takes."""


def silent(_line: str) -> None:
    """Say nothing: for callers without a person in front of them."""
