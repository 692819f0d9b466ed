"""Saving: when the store reaches the disk, and when the journal may forget.

Rules:
1. The store follows the journal. It is flushed `FLUSH_S` after its first change, so that not every
   decision waits for a second fsync. The slots that a crash takes from it come back from the
   journal: their certificates, and the bodies that this node approved; others are fetched. At an
   epoch's edge the store is flushed first: were every validator killed at once there, with journals
   of the new epoch and stores of the old, nobody could show the others the slots between.
2. What a stable checkpoint covers is flushed before the journal forgets it, and the journal forgets
   only what is executed here: others may have certified slots that this node still votes on.
3. An own statement leaves only after a flush: the bodies it admits may be nowhere else.
4. What is old leaves with what is new: each save of something drops a little, without a sync of
   its own.
5. The journal is synced in place while the disk is fast, in a thread once it is not: the hop costs
   more than a fast sync, and a slow one must not stop the node's other work.
"""

from __future__ import annotations

import trio

from consensus.effects import Persist, PersistEpoch
from validator_node.journal_bridge import AnyJournal
from validator_node.store import Store

FLUSH_S = 0.05
INLINE_SYNC_S = 0.001
SYNC_MEMORY = 0.1
"""Weight of the newest sync in the average."""


class Saving:
    """Flushes one node's store. Its clock is the caller's, in seconds."""

    def __init__(self, store: Store, journal: AnyJournal) -> None:
        self._store = store
        self._journal = journal
        self._covered = self._forgotten = 0
        self._sync_s = INLINE_SYNC_S
        """How long a sync takes, averaged."""
        self.due_at: float | None = None
        """When the next flush is due; None while nothing waits for it."""

    def append(self, effect: Persist) -> None:
        """Append an effect to the journal; a new epoch only once the store is flushed (rule 1)."""
        if isinstance(effect, PersistEpoch):
            self._store.flush()
        self._journal.append(effect)

    def cover(self, seq: int) -> None:
        """Let the journal forget the slots up to `seq`, once they are executed."""
        self._covered = seq

    def hurry(self) -> None:
        """Flush with the next `save`."""
        self.due_at = float("-inf")

    async def sync_journal(self) -> None:
        """Make what was appended durable (rule 5)."""
        if not self._journal.is_dirty:
            return
        started = trio.current_time()
        if self._sync_s < INLINE_SYNC_S:
            self._journal.sync()
        else:
            with trio.CancelScope(shield=True):  # what was executed must not outlive its record
                await trio.to_thread.run_sync(self._journal.sync)
        self._sync_s += (trio.current_time() - started - self._sync_s) * SYNC_MEMORY

    def save(self, now: float) -> bool:
        """Flush if it is time; return whether the journal has just forgotten something."""
        if self.due_at is None and self._store.is_dirty:
            self.due_at = now + FLUSH_S
        if self._store.is_dirty:
            self._store.drop_old()
        covered = min(self._covered, self._store.height)
        forgets = covered > self._forgotten
        if forgets or (self.due_at is not None and now >= self.due_at):
            self._store.flush()
            self.due_at = None
        if forgets:
            self._journal.forget_below(covered)
            self._forgotten = covered
        return forgets
