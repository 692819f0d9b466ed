"""How late this process is, and how long gossip is to wait because of it.

Votes, requests and gossip share one loop, which serves whatever is ready in turn: a decision takes
several rounds of it on several nodes, so a loop that is full of gossip decides nothing. Gossip can
wait; what is not read holds its writer back. So each gossip stream pauses after a message for
`GAIN` times as long as a round takes beyond `LATE_S`.
"""

from __future__ import annotations

from typing import Final

import trio

TICK_S: Final = 0.1
LATE_S: Final = 0.04
MEMORY: Final = 0.4
"""Weight of the newest look in the average."""
GAIN: Final = 10.0
MAX_PAUSE_S: Final = 2.0


class Pressure:
    """One process's lateness."""

    def __init__(self) -> None:
        self.late_s = 0.0
        """How much later than asked for this process wakes up, averaged."""
        self.pause_s = 0.0
        """What a gossip stream waits after a message."""

    def note(self, late_s: float) -> None:
        """Take one look into account."""
        self.late_s += (late_s - self.late_s) * MEMORY
        self.pause_s = min(max(0.0, GAIN * (self.late_s - LATE_S)), MAX_PAUSE_S)

    async def ease(self) -> None:
        """Wait as long as gossip has to."""
        if self.pause_s:
            await trio.sleep(self.pause_s)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            due = trio.current_time() + TICK_S
            await trio.sleep_until(due)
            self.note(trio.current_time() - due)
