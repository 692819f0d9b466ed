"""What an attack is made of.

`play` is the harness's side: it starts hostile processes and newcomers and returns figures of its
own. `hostile` is what a hostile process of the attack does; it tells the harness in JSON lines
(`hostile.tell`). `judge` says what the honest lost.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tests.attacks.seen import Seen, faults
from tests.attacks.stage import Stage


class Attack:
    """One attack; the subclass says all of this."""

    name: ClassVar[str]
    does: ClassVar[str]
    """What it does, in a line."""
    before: ClassVar[str]
    """What would have fallen, and fell, before the network was mended against it."""
    share: ClassVar[float] = 1.0
    """Its length, in `--seconds`."""
    own_network: ClassVar[bool] = False
    """Whether it leaves a network behind that no other attack should begin with."""
    miners: ClassVar[int] = 0
    """Registered hotkeys that it needs besides those every stage has."""
    observers: ClassVar[int] = 0
    """Nodes that start in the course of it."""
    late: ClassVar[bool] = False
    """Whether the network should have run for a while before."""

    async def prepare(self, stage: Stage, seconds: float) -> None:
        """Do what must be done before the calm phase that it is measured by."""

    async def play(self, stage: Stage, seconds: float) -> dict[str, float] | None:
        """Attack for so many seconds; return figures for `judge`."""
        raise NotImplementedError

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """Return what the honest lost; empty if the network held."""
        return faults(calm, under)

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Be the hostile process."""
        raise NotImplementedError
