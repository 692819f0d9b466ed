"""Statements waiting to be ordered: one queue a signer, in counter order. Pure.

Rules:
1. Only verified statements enter (`batch_check.Checker`). Of two statements with one counter the
   first stays.
2. A batch takes, for each signer, the statements that follow the last executed or in-flight one
   without a gap; others wait. The signers take turns, one statement a turn, from batch to batch:
   no validator crowds out the others, whatever clock it writes into its statements or how much it
   says. Whose statement did not fit into a batch comes first in the next one; meanwhile shorter
   ones of others go in.
3. At most `MAX_WAITING` wait for each signer.
4. The pool tells whose admission is in good hands: one in a statement that could be ordered, as no
   counter before it is missing, needs nobody else's word. It is relayed like our own (`relay`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protocol.actions import Action
from protocol.codec import encode
from protocol.records.batch import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, Batch
from protocol.records.statement import Statement, StatementHeader
from protocol.records.submission import SignedSubmission

MAX_WAITING = 64
_BATCH_OVERHEAD_BYTES = 256


class StatementPool:
    """The verified statements this node knows of and has not seen executed."""

    def __init__(self, size: int) -> None:
        self.begin_epoch(size)

    def begin_epoch(self, size: int) -> None:
        """Forget everything: statements and their counters belong to one epoch."""
        self._waiting: list[dict[int, Statement]] = [{} for _ in range(size)]
        self._executed = [0] * size
        self._turn = 0
        """Who comes first in the next batch."""
        self._admissions: dict[bytes, set[tuple[int, int]]] = {}
        """Submission id -> (signer, counter) of the waiting statements that ask for it."""

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._waiting)

    def executed(self, signer: int) -> int:
        """Return the counter of the signer's last executed statement."""
        return self._executed[signer]

    def knows(self, signer: int, counter: int) -> bool:
        """Return whether a statement is here or was executed."""
        return counter <= self._executed[signer] or counter in self._waiting[signer]

    def wants(self, signer: int, counter: int) -> bool:
        """Return whether a statement would be kept."""
        in_reach = counter <= self._executed[signer] + MAX_WAITING
        return in_reach and not self.knows(signer, counter)

    def add(self, statement: Statement) -> bool:
        """Keep a verified statement; return whether it was new and in reach."""
        header = statement.header
        if not self.wants(header.signer, header.counter):
            return False
        self._waiting[header.signer][header.counter] = statement
        for submission_id in admissions_of(statement):
            place = header.signer, header.counter
            self._admissions.setdefault(submission_id, set()).add(place)
        return True

    def asks_for(self, submission_id: bytes) -> bool:
        """Return whether a statement that could be ordered asks for an admission (rule 4)."""
        return any(self._follows(*place) for place in self._admissions.get(submission_id, ()))

    def _follows(self, signer: int, counter: int) -> bool:
        queue = self._waiting[signer]
        return all(before in queue for before in range(self._executed[signer] + 1, counter))

    def mark_executed(self, signer: int, counter: int) -> None:
        """Forget what is executed."""
        self._executed[signer] = max(self._executed[signer], counter)
        queue = self._waiting[signer]
        for known in [known for known in queue if known <= counter]:
            self._forget(queue.pop(known))

    def _forget(self, statement: Statement) -> None:
        header = statement.header
        for submission_id in admissions_of(statement):
            places = self._admissions[submission_id]
            places.discard((header.signer, header.counter))
            if not places:
                del self._admissions[submission_id]

    def execute(self, header: StatementHeader) -> None:
        """Note an executed statement; one out of order was a no-op and changes nothing."""
        if header.counter == self._executed[header.signer] + 1:
            self.mark_executed(header.signer, header.counter)

    def waiting(self) -> list[Statement]:
        """Return all waiting statements, by signer and counter."""
        return [queue[counter] for queue in self._waiting for counter in sorted(queue)]

    def next_counters(self, in_flight: Iterable[Batch]) -> list[int]:
        """Return, for each signer, the counter that the next batch must continue with."""
        following = [counter + 1 for counter in self._executed]
        for batch in in_flight:
            for action in batch.actions:
                if isinstance(action, Statement):
                    header = action.header
                    if header.counter == following[header.signer]:
                        following[header.signer] += 1
        return following

    def has_next(self, in_flight: Iterable[Batch]) -> bool:
        """Return whether a batch could be made of waiting statements."""
        following = self.next_counters(in_flight)
        return any(
            counter in queue for counter, queue in zip(following, self._waiting, strict=True)
        )

    def take(self, in_flight: Iterable[Batch], reserved_bytes: int = 0) -> list[Action]:
        """Return the statements for the next batch, within its limits (rule 2).

        `reserved_bytes` are needed for one action besides.
        """
        following = self.next_counters(in_flight)
        chosen: list[Action] = []
        items, size = int(reserved_bytes > 0), _BATCH_OVERHEAD_BYTES + reserved_bytes
        turn, left_out = self._turn, None
        while (statement := self._next(following, turn)) is not None:
            signer = statement.header.signer
            turn = signer + 1
            more_items, more_bytes = len(statement.items), len(encode(statement)) + 40
            if items + more_items > MAX_BATCH_ITEMS or size + more_bytes > MAX_BATCH_BYTES:
                following[signer] = 0  # counters begin at 1: no more of this signer
                left_out = signer if left_out is None else left_out
                continue
            items, size = items + more_items, size + more_bytes
            chosen.append(statement)
            following[signer] += 1
        self._turn = turn if left_out is None else left_out
        return chosen

    def in_order(self, in_flight: Iterable[Batch]) -> Iterator[Statement]:
        """Yield what could be ordered and is not in flight, the signers in turn."""
        following = self.next_counters(in_flight)
        turn = 0
        while (statement := self._next(following, turn)) is not None:
            yield statement
            following[statement.header.signer] += 1
            turn = statement.header.signer + 1

    def _next(self, following: list[int], turn: int) -> Statement | None:
        """Return the statement that continues `following` of the first signer from `turn` on."""
        size = len(self._waiting)
        for signer in ((turn + step) % size for step in range(size)):
            statement = self._waiting[signer].get(following[signer])
            if statement is not None:
                return statement
        return None


def admissions_of(statement: Statement) -> set[bytes]:
    """Return the ids of the submissions whose admission a statement asks for."""
    return {item.submission_id for item in statement.items if isinstance(item, SignedSubmission)}
