"""What can be made to go wrong, as plain values that the ledger and the server look at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ErrorAnswer:
    """The JSON-RPC error that the next `count` calls of `method` get (any method if empty)."""

    code: int
    message: str
    data: str | None = None
    method: str = ""
    count: int = 1


@dataclass
class Knobs:
    """All off, but for the checks of the pool, which the live chain has.

    Attributes:
        pool_checks: whether the pool refuses what subtensor's transaction extension refuses.
            Without, such a call gets into a block and fails there by its name.
        blocks_paused: no block is made by the clock (a stale endpoint).
        finality_paused: blocks are made, but none becomes final.
        drop_reveals: timelocked commits whose turn it is are thrown away unopened.
        swallow: so many extrinsics are accepted next, and never seen again.
        silent: sockets stay open and every request is read, but nothing is ever answered or sent.
        delay_ms: how long each answer is held back.
        errors: answers that replace real ones, first come first served.
    """

    pool_checks: bool = True
    blocks_paused: bool = False
    finality_paused: bool = False
    drop_reveals: bool = False
    swallow: int = 0
    silent: bool = False
    delay_ms: int = 0
    errors: list[ErrorAnswer] = field(default_factory=list)

    def next_error(self, method: str) -> ErrorAnswer | None:
        """Return the error that this call of `method` gets, and count it; None for none."""
        for answer in self.errors:
            if answer.method in ("", method):
                answer.count -= 1
                if answer.count <= 0:
                    self.errors.remove(answer)
                return answer
        return None
