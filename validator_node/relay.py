"""The relay: says again the statements that wait to be ordered and perhaps did not get around.

Rules (consensus.md 10):
1. A statement that could be ordered, is in no proposal, and has waited for as long as decisions
   take is sent to everybody: by its signer after that time, by the others after twice as long. A
   signer who gave it to few, or a link that lost it, delays it by no more.
2. Each further time comes after twice as long again, at most `MAX_WAIT_S`. What is merely waiting
   its turn behind others must not be sent around again and again by everybody: a network that is
   busy would be busy with that alone.
3. At most `RELAY_BYTES` leave at a time, and not before `LOOK_S` after the last ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.codec import encode
from protocol.records.batch import Batch
from protocol.records.statement import Statement
from validator_node.statements import StatementPool

RELAY_BYTES = 128 * 1024
LOOK_S = 0.5
MAX_WAIT_S = 30.0


@dataclass(slots=True)
class _Waiting:
    """When a statement is said again, and what to wait after that."""

    at: float
    wait_s: float


class Relay:
    """What this node says again; its clock is the caller's, in seconds."""

    def __init__(self, pool: StatementPool) -> None:
        self._pool = pool
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._looked = float("-inf")

    def begin_epoch(self) -> None:
        """Forget everything: counters belong to one epoch."""
        self._waiting.clear()

    def due(
        self, in_flight: Iterable[Batch], me: int | None, now: float, patience_s: float
    ) -> list[Statement]:
        """Return what to say again now, if decisions take `patience_s`."""
        if now < self._looked + LOOK_S:
            return []
        self._looked = now
        before, self._waiting = self._waiting, {}
        chosen: list[Statement] = []
        size = 0
        for statement in self._pool.in_order(in_flight):
            key = statement.header.signer, statement.header.counter
            wait_s = patience_s if key[0] == me else 2 * patience_s
            entry = self._waiting[key] = before.get(key) or _Waiting(now + wait_s, wait_s)
            if entry.at > now or size >= RELAY_BYTES:
                continue
            entry.wait_s = min(2 * entry.wait_s, MAX_WAIT_S)
            entry.at = now + entry.wait_s
            chosen.append(statement)
            size += len(encode(statement))
        return chosen

    def first(self, in_flight: Iterable[Batch]) -> list[Statement]:
        """Return what a validator whose link has opened may lack first."""
        chosen: list[Statement] = []
        size = 0
        for statement in self._pool.in_order(in_flight):
            size += len(encode(statement))
            if size > RELAY_BYTES and chosen:
                break
            chosen.append(statement)
        return chosen
