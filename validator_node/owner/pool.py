"""The owner's changes that wait to be ordered. No trio, no network.

Rules:
1. A change is taken in if it decodes, comes from the owner that the state knows, has a sequence at
   most `WINDOW` above the last committed one, and is signed. One change a sequence, the first that
   came; so there are never more than `WINDOW`.
2. What no honest peer forwards (no change at all, or not signed by whom it names) is *rejected*.
   What only this node's state speaks against is *ignored*: the sender may know a newer chain. The
   signature is verified before anything is remembered or tried on the state, and only of what
   could make a difference here.
3. A change whose turn it is and that would be a no-op is not kept: the owner can sign another one
   with the same sequence. Why it was refused is remembered (bounded), so that the owner is told.
4. After each slot the pool forgets what was committed, overtaken, or would be a no-op by now.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from protocol.actions import MAX_CHANGE_BYTES, RegistryChange
from protocol.codec import decode, digest_of
from protocol.errors import ProtocolError
from protocol.records.batch import Batch
from protocol.view import View
from registry import keys
from registry.access import read
from registry.catalog import apply_registry_change
from validator_node.network.gossip import CheckAnswer

if TYPE_CHECKING:
    from validator_node.store import Store

WINDOW = 4
"""Sequences above the committed one that are kept."""
REMEMBERED_REFUSALS = REMEMBERED_SIGNED = 64

ChangeState = Literal["unknown", "refused", "held"]


class RegistryPool:
    """At most `WINDOW` changes, each signed by the owner, by their sequence."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[int, RegistryChange] = {}
        self._refusals: OrderedDict[bytes, str] = OrderedDict()
        self._signed: OrderedDict[bytes, None] = OrderedDict()
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def held(self) -> list[RegistryChange]:
        """Return what waits, in the order of the sequences."""
        return [self._held[sequence] for sequence in sorted(self._held)]

    def state_of(self, digest: bytes) -> tuple[ChangeState, str]:
        """Return what became of the change whose content has this digest, and why it was refused.

        Whether it was committed is the state's to say.
        """
        if any(digest_of(change.content) == digest for change in self._held.values()):
            return "held", ""
        reason = self._refusals.get(digest)
        return ("unknown", "") if reason is None else ("refused", reason)

    def check(self, data: bytes) -> CheckAnswer:
        """Judge a gossip message; what is accepted is taken in."""
        try:
            change = decode(RegistryChange, data, limit_bytes=MAX_CHANGE_BYTES)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            return CheckAnswer.REJECT
        unwanted = self._why_unwanted(change)
        if unwanted is not None:
            self.refused[unwanted] += 1
            return CheckAnswer.USELESS if unwanted == "not_owner" else CheckAnswer.IGNORE
        if not self.is_signed(change):
            return CheckAnswer.REJECT
        reason = self._why_refused(change)
        if reason is not None:
            self._refuse(change, reason)
            return CheckAnswer.IGNORE
        self._refusals.pop(digest_of(change.content), None)
        self._held[change.content.sequence] = change
        return CheckAnswer.ACCEPT

    def is_signed(self, change: RegistryChange) -> bool:
        """Return whether the owner that the state knows has signed this; one that failed counts.

        A repetition costs no second verification: the last `REMEMBERED_SIGNED` are known.
        """
        mark = read(self._store.tree.view(), keys.RegistryMark, keys.REGISTRY)
        if mark is None or change.owner != mark.owner:
            return False
        digest = digest_of(change)
        if digest not in self._signed:
            try:
                change.verify(self._store.genesis.network_id)
            except ProtocolError as error:
                self.refused[error.reason] += 1
                return False
            self._signed[digest] = None
            if len(self._signed) > REMEMBERED_SIGNED:
                self._signed.popitem(last=False)
        return True

    def _why_unwanted(self, change: RegistryChange) -> str | None:
        """Return why it makes no difference here whether this is signed, or None."""
        mark = read(self._store.tree.view(), keys.RegistryMark, keys.REGISTRY)
        if mark is None or change.owner != mark.owner:
            return "not_owner"
        sequence = change.content.sequence
        if sequence <= mark.sequence:
            return "overtaken"
        if sequence > mark.sequence + WINDOW:
            return "far_ahead"
        held = self._held.get(sequence)
        if held is not None and digest_of(held.content) == digest_of(change.content):
            return "duplicate"
        return None

    def _why_refused(self, change: RegistryChange) -> str | None:
        if change.content.sequence in self._held:
            return "sequence_taken"
        view = self._store.tree.view()
        mark = read(view, keys.RegistryMark, keys.REGISTRY)
        if mark is not None and change.content.sequence == mark.sequence + 1:
            return self._apply(view, change)
        return None

    def _refuse(self, change: RegistryChange, reason: str) -> None:
        """Count a refusal and remember it for the owner, who has signed this."""
        self.refused[reason] += 1
        self._refusals[digest_of(change.content)] = reason
        if len(self._refusals) > REMEMBERED_REFUSALS:
            self._refusals.popitem(last=False)

    def _apply(self, view: View, change: RegistryChange) -> str | None:
        """Apply a change to a view that is thrown away; return why it would be a no-op."""
        return apply_registry_change(view, change, self._store.height + 1)

    def next_change(self, in_flight: Iterable[Batch]) -> RegistryChange | None:
        """Return the change that the next batch could hold, or None.

        It follows what is executed and in flight without a gap, and would not be a no-op.
        """
        if not self._held:
            return None
        view = self._store.tree.view()
        for batch in in_flight:
            for action in batch.actions:
                if isinstance(action, RegistryChange):
                    self._apply(view, action)
        mark = read(view, keys.RegistryMark, keys.REGISTRY)
        change = None if mark is None else self._held.get(mark.sequence + 1)
        return None if change is None or self._apply(view, change) is not None else change

    def on_executed(self) -> None:
        """Forget what the last slot has decided about (rule 4)."""
        if not self._held:
            return
        mark = read(self._store.tree.view(), keys.RegistryMark, keys.REGISTRY)
        for sequence, change in list(self._held.items()):
            if mark is None or change.owner != mark.owner:
                self._drop(change, "not_owner")
            elif sequence <= mark.sequence:
                del self._held[sequence]
            elif sequence == mark.sequence + 1:
                reason = self._apply(self._store.tree.view(), change)
                if reason is not None:
                    self._drop(change, reason)

    def _drop(self, change: RegistryChange, reason: str) -> None:
        del self._held[change.content.sequence]
        self._refuse(change, reason)
