"""The speaker: gathers what this validator has to say and signs it, many items at a time.

Rules:
1. An item is said once: admissions by submission id, verdicts by submission id, an observation by
   epoch, a consensus key by hotkey, a report by candidate. What the state has overtaken is
   dropped unsaid.
2. A statement closes `SAY_AFTER_S` after its first item, at `MAX_STATEMENT_ITEMS`, or before it
   is longer than `SPOKEN_BYTES`: several must fit into one batch.
3. At most `MAX_OUTSTANDING` own statements wait to be ordered; more items wait here, and the queue
   here is bounded too: what does not fit is refused to the caller.
4. A counter is never used twice in an epoch: it continues from the journal and the state
   (`first_counter`). What was said and not executed when an epoch ends is said again in the next,
   also what was said before a restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from consensus.validators import Voters
from protocol.codec import encode
from protocol.identity import ConsensusKey
from protocol.records.canary import CanaryItem
from protocol.records.consensus_key import SignedKey
from protocol.records.statement import (
    MAX_STATEMENT_ITEMS,
    Statement,
    StatementHeader,
    StatementItem,
    VerdictItem,
    items_root,
    statement_payload,
)
from protocol.records.submission import SignedSubmission

SAY_AFTER_S = 0.05
SPOKEN_BYTES = 64 * 1024
"""Items of one statement; with its header it stays below `MAX_STATEMENT_BYTES` of the record."""
MAX_OUTSTANDING = 8
QUEUE_LIMIT = 16_384

Key = tuple[str, bytes]


def key_of(item: StatementItem) -> Key:
    """Return what makes an item the same as another one."""
    if isinstance(item, SignedSubmission):
        return "admit", item.submission.submission_id
    if isinstance(item, VerdictItem):
        return "verdict", item.submission_id
    if isinstance(item, CanaryItem):
        return "canary", item.challenge
    if isinstance(item, SignedKey):
        return "key", item.binding.hotkey
    return "observe", item.epoch.to_bytes(8, "big")


class Speaker:
    """Makes this validator's statements. `say` hands each over to be ordered."""

    def __init__(
        self,
        voters: Voters,
        me: int | None,
        key: ConsensusKey,
        *,
        say: Callable[[Statement], Awaitable[None]],
        executed_counter: Callable[[], int],
        is_settled: Callable[[StatementItem], bool],
        clock_ms: Callable[[], int],
        first_counter: int,
        said: Iterable[Statement] = (),
    ) -> None:
        """`said` are own statements from the journal; those of other epochs are left aside."""
        self._voters = voters
        self._me = me
        self._key = key
        self._say = say
        self._executed_counter = executed_counter
        self._is_settled = is_settled
        self._clock_ms = clock_ms
        self._counter = first_counter - 1
        self._items: dict[Key, StatementItem] = {}
        self._said: dict[int, tuple[StatementItem, ...]] = {}
        """Own statements by counter, until they are executed."""
        for statement in said:
            if statement.header.epoch == voters.epoch:
                self._said[statement.header.counter] = statement.items
        self._changed = trio.Event()
        self.dropped = 0

    def add(self, item: StatementItem) -> bool:
        """Queue an item; False if the queue is full. The same item again changes nothing."""
        if len(self._items) >= QUEUE_LIMIT and key_of(item) not in self._items:
            self.dropped += 1
            return False
        self._items[key_of(item)] = item
        self.wake()
        return True

    def begin_epoch(self, voters: Voters, me: int | None) -> None:
        """Start counting at 1, and say again what was not executed."""
        for counter in sorted(self._said):
            for item in self._said[counter]:
                self._items.setdefault(key_of(item), item)
        self._said.clear()
        self._voters, self._me, self._counter = voters, me, 0
        self.wake()

    def drop(self, kind: str, subject: bytes) -> None:
        """Forget a queued item that has become needless."""
        self._items.pop((kind, subject), None)

    def holds(self, kind: str, subject: bytes) -> bool:
        """Return whether an item waits here to be said."""
        return (kind, subject) in self._items

    def wake(self) -> None:
        """Look again: an item came, or an own statement was executed."""
        self._changed.set()

    async def run(self) -> None:
        """Make statements for ever."""
        while True:
            await self._changed.wait()
            if self._me is None or not self._items or self._outstanding() >= MAX_OUTSTANDING:
                self._changed = trio.Event()
                continue
            if len(self._items) < MAX_STATEMENT_ITEMS:
                await trio.sleep(SAY_AFTER_S)
            me = self._me
            if me is None:  # an epoch began while it slept: the items wait for the next
                continue
            items = self._take()
            if items:
                await self._say(self._sign(items, me))

    def _outstanding(self) -> int:
        executed = self._executed_counter()
        for counter in [counter for counter in self._said if counter <= executed]:
            del self._said[counter]
        return self._counter - executed

    def _take(self) -> tuple[StatementItem, ...]:
        taken: list[StatementItem] = []
        size = 0
        while self._items and len(taken) < MAX_STATEMENT_ITEMS:
            key, item = next(iter(self._items.items()))
            if not self._is_settled(item):
                length = len(encode(item))
                if taken and size + length > SPOKEN_BYTES:
                    break
                if length > SPOKEN_BYTES:  # nobody would take the statement, nor any after it
                    self.dropped += 1
                else:
                    taken.append(item)
                    size += length
            del self._items[key]
        return tuple(taken)

    def _sign(self, items: tuple[StatementItem, ...], me: int) -> Statement:
        self._counter += 1
        self._said[self._counter] = items
        header = StatementHeader(
            epoch=self._voters.epoch,
            signer=me,
            counter=self._counter,
            clock_ms=self._clock_ms(),
            items_root=items_root(items),
        )
        payload = statement_payload(self._voters.domain, header, self._key.public_key)
        return Statement(header=header, items=items, signature=self._key.sign(payload))
