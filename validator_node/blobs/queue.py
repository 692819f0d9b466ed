"""The blobs that are wanted, fetched in fair turns (`slots`).

Rules:
1. A blob stays wanted until it is here or `drop` is called; whoever wants it knows for how long.
2. An attempt asks each of its holders once (`asking`). `slots` says when one begins and when it is
   parked; what has come of a parked one is kept, and the next attempt goes on from there.
3. Nothing is handed over that does not have the right hash.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

import structlog
import trio

from validator_node.blobs.accounts import SlotLimits
from validator_node.blobs.asking import Asking
from validator_node.blobs.slots import FairSlots
from validator_node.blobs.transfer import EMPTY_DIGEST, Transfer

TICK_S = 0.25
SPAN_S = 120.0
"""What each holder has its share of, in one attempt."""
ANSWER_SHARE = 0.5
"""The part of an attempt's patience that one holder may use up before its first piece: who stalls
does not keep the next holder from being asked in the same attempt."""

BODIES = SlotLimits()
"""The shares of bodies."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A blob, and what to do about it."""

    digest: bytes
    size: int | None
    """Its length, if that is known."""
    max_bytes: int
    holders: Callable[[], Iterable[str]]
    """Returns whom to ask, in this order, anew for each attempt."""
    is_here: Callable[[], bool]
    """Whether there is no need to ask anybody."""
    on_body: Callable[[bytes | None], None]
    """Takes the blob; None if it was here."""


@dataclass
class _Entry:
    """A wanted blob and its attempt."""

    wanted: Wanted
    transfer: Transfer
    scope: trio.CancelScope | None = None
    attempting: trio.Lock = field(default_factory=trio.Lock)
    """An attempt that is being ended is over before the next one begins."""


class BlobQueue:
    """Wanted blobs and their attempts."""

    def __init__(
        self,
        asking: Asking,
        limits: SlotLimits = BODIES,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._asking = asking
        self._now = now
        self._slots = FairSlots(limits)
        self._entries: dict[Hashable, _Entry] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def in_hand(self) -> int:
        """How many attempts are under way."""
        return self._slots.in_hand

    @property
    def held_bytes(self) -> int:
        """Bytes set aside for what is in hand, and kept of what is parked."""
        return self._slots.large_bytes + self._slots.kept_bytes

    def debt_steps(self, owner: Hashable) -> int:
        """Return how much an owner has cost; 0 for one that has done well or nothing."""
        return self._slots.debt_steps(owner, self._now())

    def want(self, key: Hashable, owner: Hashable, wanted: Wanted, *, urgent: bool = False) -> None:
        """Fetch a blob on account of `owner`; what is wanted already may become urgent."""
        if key not in self._entries:
            size = wanted.max_bytes if wanted.size is None else wanted.size
            transfer = Transfer(wanted.digest, wanted.size, wanted.max_bytes)
            self._entries[key] = _Entry(wanted, transfer)
        else:
            size = self._entries[key].transfer.max_bytes
        self._slots.add(key, owner, size, self._now(), urgent=urgent)
        self._changed.set()

    def drop(self, key: Hashable) -> None:
        """Want a blob no longer; one that is not wanted is no error."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._slots.remove(key, self._now())
            if entry.scope is not None:
                entry.scope.cancel()
            self._changed.set()

    async def run(self) -> None:
        """Fetch what is wanted, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                decision = self._slots.decide(self._now())
                for key in decision.stop:
                    scope = self._entries[key].scope
                    if scope is not None:
                        scope.cancel()
                for key in decision.forget:
                    self._entries[key].transfer.restart()
                for key, patience_s in decision.begin:
                    nursery.start_soon(self._attempt, key, self._entries[key], patience_s)
                with trio.move_on_after(TICK_S if self._entries else float("inf")):
                    await self._changed.wait()

    async def _attempt(self, key: Hashable, entry: _Entry, patience_s: float) -> None:
        async with entry.attempting:
            if self._entries.get(key) is not entry:
                return
            with trio.CancelScope() as entry.scope:
                await self._bring(key, entry, patience_s)
            if entry.scope.cancelled_caught or self._entries.get(key) is not entry:
                self._tidy(key, entry)
                return
            content, is_here = entry.transfer.content, entry.wanted.is_here()
            if content is None and not is_here:
                self._slots.on_ended(key, self._now())
                self._tidy(key, entry)
                return
            self._slots.on_delivered(key, self._now())
            del self._entries[key]
        self._changed.set()
        entry.wanted.on_body(content)

    def _tidy(self, key: Hashable, entry: _Entry) -> None:
        """Drop what came if it is not to be kept."""
        if not self._slots.kept(key):
            entry.transfer.restart()

    async def _bring(self, key: Hashable, entry: _Entry, patience_s: float) -> None:
        transfer, wanted = entry.transfer, entry.wanted
        if wanted.is_here():
            return
        if wanted.digest == EMPTY_DIGEST:
            transfer.content = b""
            return

        def on_piece() -> None:
            size = transfer.max_bytes if transfer.size is None else transfer.size
            if not self._slots.on_bytes(key, transfer.received, size, self._now()):
                assert entry.scope is not None
                entry.scope.cancel()

        said = await self._asking.bring(
            transfer,
            wanted.holders(),
            answer_s=patience_s * ANSWER_SHARE,
            span_s=SPAN_S,
            on_piece=on_piece,
        )
        if transfer.content is None:
            log.debug("blob not here yet", blob=wanted.digest.hex()[:16], said=said)
