"""Batching: when the primary proposes, and what.

Rules:
1. A batch closes `interval_s` after the first thing that waits for it.
2. It holds the waiting statements that continue what is executed or in flight (`statements`).
3. An empty batch is proposed only to name a state root that is still owed: W slots after a slot
   that changed the state. An epoch's edge is W slots after the action that fixed it, so the same
   rule reaches it.
4. The metagraph of the next epoch is proposed as soon as a quorum has observed it, by any primary
   that has read the same one. It counts as work: a primary that withholds it loses its view.
5. The owner's change whose turn it is counts as work, too. A batch holds one at most, and none
   beside a metagraph, so that there is always room for statements.
"""

from __future__ import annotations

from consensus.engine import Engine
from protocol.actions import Action
from protocol.codec import encode
from protocol.records.batch import Batch
from protocol.records.metagraph import EpochMetagraph
from registry.epochs import why_not_wanted
from validator_node.owner.pool import RegistryPool
from validator_node.statements import StatementPool
from validator_node.store import Store

BATCH_INTERVAL_S = 0.05


class Batching:
    """Makes this node's proposals."""

    def __init__(
        self, store: Store, pool: StatementPool, *, interval_s: float = BATCH_INTERVAL_S
    ) -> None:
        self._store = store
        self._pool = pool
        self._interval_s = interval_s
        self._window = store.genesis.parameters.window
        self.changes = RegistryPool(store)
        """The owner's changes that wait to be ordered."""
        self.close_at: float | None = None
        """When the open batch closes, on the clock of `propose`; None while nothing waits."""
        self.metagraph: EpochMetagraph | None = None
        """What this node has read at the block that begins the next epoch."""
        self.last_change = self._find_last_change()
        """The last executed slot that changed the state."""

    def _find_last_change(self) -> int:
        height = self._store.height
        changed = (
            seq for seq in range(height, max(0, height - self._window), -1) if self._changed(seq)
        )
        return next(changed, 0)

    def _changed(self, seq: int) -> bool:
        # Not by the actions: edges, disputes and deadlines change the state without one. Where a
        # snapshot left no root before it, a root is named once more, which is harmless.
        return self._store.root_after(seq) != self._store.root_after(seq - 1)

    def note_executed(self, seq: int) -> None:
        """Look whether the slot that was executed last changed the state."""
        self.changes.on_executed()
        if self._changed(seq):
            self.last_change = seq

    def has_work(self, height: int) -> bool:
        """Return whether something waits to be ordered or a state root to be named."""
        owed = self.last_change > 0 and height < self.last_change + self._window
        # What waits behind a gap in its signer's counters is no work: no primary could order it.
        return self._pool.has_next([]) or owed or self._next_change([]) is not None

    def _next_change(self, in_flight: list[Batch]) -> Action | None:
        """Return what goes before the statements into the next batch, if anything does."""
        return self._wanted(in_flight) or self.changes.next_change(in_flight)

    def _wanted(self, in_flight: list[Batch]) -> EpochMetagraph | None:
        """Return our metagraph if a quorum has observed it and no batch holds it (rule 4)."""
        found = self.metagraph
        if found is None:
            return None
        reason = why_not_wanted(self._store.tree.view(), self._store.voters, found)
        if reason == "edge_fixed" or found.epoch <= self._store.epoch:
            self.metagraph = None
        on_its_way = any(isinstance(one, EpochMetagraph) for b in in_flight for one in b.actions)
        return found if reason is None and not on_its_way else None

    def propose(self, engine: Engine, now: float) -> Batch | None:
        """Return the next batch if this node leads and its time has come."""
        slot = engine.open_slot
        in_flight = engine.in_flight
        change = None if slot is None else self._next_change(in_flight)
        if slot is None or not (
            change is not None
            or self._pool.has_next(in_flight)
            or self._must_name_root(engine.height, in_flight)
        ):
            self.close_at = None
            return None
        root = self._store.root_after(slot - self._window)
        if root is None:  # nothing closes before it is known; what makes it known is an input
            self.close_at = None
            return None
        if self.close_at is None:
            self.close_at = now + self._interval_s
        if now < self.close_at:
            return None
        self.close_at = None
        if change is None:
            return Batch(state_root=root, actions=tuple(self._pool.take(in_flight)))
        statements = self._pool.take(in_flight, len(encode(change)))
        return Batch(state_root=root, actions=(change, *statements))

    def _must_name_root(self, height: int, in_flight: list[Batch]) -> bool:
        last = self.last_change
        for distance, batch in enumerate(in_flight, start=1):
            if batch.actions:
                last = height + distance
        return last > 0 and last + self._window > height + len(in_flight)
