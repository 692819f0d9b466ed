"""What this node sends from its ledger to a validator that lacks it.

Every peer answers each STATUS of a laggard with the same slots. So that three answers do not fill
its link three times over, and again each time it asks while they are still on their way, what was
sent to a validator is not sent to it again within `AGAIN_S`.
"""

from __future__ import annotations

import trio

from consensus.messages import BatchBody, DecidedSlot
from validator_node.outbox import Outbox
from validator_node.store import Store

AGAIN_S = 2.0


class LedgerAnswers:
    """Answers through the outbox."""

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._sent: dict[int, tuple[int, float]] = {}
        """By validator: the last slot that was sent, and when."""

    def send_decided(self, peer: int, first: int, last: int) -> None:
        """Send decided slots with their certificates, as far as they are held."""
        now = trio.current_time()
        sent, at = self._sent.get(peer, (0, 0.0))
        if now < at + AGAIN_S and sent >= first:
            first = sent + 1
        for seq in range(first, last + 1):
            entry = self._store.batch_at(seq)
            if entry is not None:
                self._outbox.send(peer, DecidedSlot(batch=entry[0], certificate=entry[1]))
        if first <= last:
            self._sent[peer] = last, now

    def send_body(self, peer: int, seq: int, digest: bytes) -> None:
        """Send the batch of a decided slot, if it is the one that is asked for."""
        entry = self._store.batch_at(seq)
        if entry is not None and entry[1].header.digest == digest:
            self._outbox.send(peer, BatchBody(header=entry[1].header, batch=entry[0]))
