"""Reading the log from several peers at the same time, and executing it in order.

Rules:
1. Every slot read is checked against its proven set before the engine sees it, so that a lie is
   charged to the peer that told it, and nothing else of that peer's reply is used.
2. `PARALLEL` sources are read at a time, each for disjoint spans (`ranges`), the best ones first.
   Who takes longer for an answer than `Sources.patience_s`, who does not have what it claims, and,
   while others wait for their turn, who after `GRACE_S` brings neither `MIN_SLOTS_PER_S` nor
   `MIN_BYTES_PER_S`, makes room for the next one.
3. A round lasts at most `ROUND_S`, and ends when for `IDLE_S` nothing came of those who claim more
   than the others, who have brought all they have: then everybody is asked anew. Otherwise a claim
   of slots that nobody else has would keep this node from the ones that are decided meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog
import trio

from consensus.certificate import Verify
from consensus.messages import DecidedSlot
from protocol.codec import encode
from protocol.errors import ProtocolError
from validator_node.network.errors import DeadlineExceededError, NetworkError
from validator_node.sync.asking import Asker
from validator_node.sync.ranges import HEDGE_S, Ranges
from validator_node.sync.records import LOG_PROTOCOL, MAX_LOG_REPLY_BYTES, LogReply, LogRequest
from validator_node.sync.sets import SetProver
from validator_node.sync.sources import Sources
from validator_node.sync.trust import check_slot

PARALLEL = 3
GRACE_S = 4.0
MIN_SLOTS_PER_S = 8.0
MIN_BYTES_PER_S = 16_384.0
ROUND_S = 60.0
IDLE_S = 2.0
CHECKED_AT_ONCE = 16
"""Slots whose certificates are verified before other tasks have a turn."""

Execute = Callable[[tuple[DecidedSlot, ...]], Awaitable[bool]]
"""Executes slots in order; returns whether all of them were."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """The part of the log that counts as a peer's."""

    first: int
    last: int


class _Left(Exception):  # noqa: N818 - a verdict on a source, never leaves this module
    """A source is left for the next one."""


@dataclass(slots=True)
class _Tally:
    """What a source brought in its turn."""

    busy_s: float = 0.0
    slots: int = 0
    bytes: int = 0

    @property
    def is_slow(self) -> bool:
        return (
            self.busy_s >= GRACE_S
            and self.slots < MIN_SLOTS_PER_S * self.busy_s
            and self.bytes < MIN_BYTES_PER_S * self.busy_s
        )


@dataclass
class _Round:
    """The state that the tasks of one round share."""

    ranges: Ranges
    holders: Mapping[str, Held]
    waiting: deque[str]
    """Sources whose turn has not come, the best first."""
    working: int = PARALLEL
    moved: bool = False
    asked: set[str] = field(default_factory=set)
    """Whose answer is being waited for."""
    changed: trio.Event = field(default_factory=trio.Event)

    def pulse(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class LogReader:
    """Brings this node up by others' logs."""

    def __init__(
        self,
        asker: Asker,
        sources: Sources,
        prover: SetProver,
        verify: Verify,
        execute: Execute,
    ) -> None:
        self._asker = asker
        self._sources = sources
        self._prover = prover
        self._verify = verify
        self._execute = execute

    async def read(self, height: int, holders: Mapping[str, Held]) -> bool:
        """Read on from `height` from those who hold the next slot; return whether any was executed.

        Ends when none of them has more, or none is left, or the round is over.
        """
        able = {p: held for p, held in holders.items() if held.first <= height + 1 <= held.last}
        if not able:
            return False
        this = _Round(Ranges(height + 1), able, deque(self._sources.ordered(able)))
        with trio.move_on_after(ROUND_S):
            async with trio.open_nursery() as nursery:
                for _ in range(PARALLEL):
                    nursery.start_soon(self._work, this)
                await self._execute_all(this)
                nursery.cancel_scope.cancel()
        return this.moved

    async def _execute_all(self, this: _Round) -> None:
        while True:
            changed = this.changed
            slots = this.ranges.take()
            if slots:
                this.pulse()  # the window has moved
                if not await self._execute(slots):
                    return
                this.moved = True
            elif not this.working:
                return
            elif this.moved and not this.waiting and this.working < PARALLEL:
                with trio.move_on_after(IDLE_S) as idle:
                    await changed.wait()
                if idle.cancelled_caught:
                    for peer_id in this.asked:
                        self._sources.failed(peer_id)
                    return
            else:
                await changed.wait()

    async def _work(self, this: _Round) -> None:
        """Give one source after the other its turn."""
        while this.waiting:
            peer_id = this.waiting.popleft()
            tally = _Tally()
            try:
                await self._turn(this, peer_id, tally)
            except ProtocolError as error:
                self._sources.failed(peer_id)
                self._asker.charge(peer_id, error)
            except (NetworkError, _Left) as error:
                self._sources.failed(peer_id)
                self._asker.counts["sources_left"] += 1
                log.info("log not read", peer=peer_id, slots=tally.slots, reason=str(error))
            else:
                if tally.slots:
                    self._sources.brought(peer_id)
            this.ranges.release(peer_id)
            this.pulse()
        this.working -= 1
        this.pulse()

    async def _turn(self, this: _Round, peer_id: str, tally: _Tally) -> None:
        """Read from one source until there is nothing left that it has."""
        held = this.holders[peer_id]
        while this.ranges.needs(held.last):
            now = trio.current_time()
            first = this.ranges.ask(peer_id, held.first, held.last, now)
            if first is None:
                with trio.move_on_after(HEDGE_S):
                    await this.changed.wait()
                continue
            this.asked.add(peer_id)
            try:
                slots, size = await self._read(peer_id, first)
            finally:
                this.asked.discard(peer_id)
            tally.busy_s += trio.current_time() - now
            tally.slots += len(slots)
            tally.bytes += size
            this.ranges.put(peer_id, slots, size)
            this.pulse()
            if not slots:
                raise _Left(f"it claims slots {held.first} to {held.last}, but has no {first}")
            if tally.is_slow and this.waiting:
                raise _Left(f"too slow: {tally.slots} slots in {tally.busy_s:.1f} s")

    async def _read(self, peer_id: str, first: int) -> tuple[tuple[DecidedSlot, ...], int]:
        """Return the slots that a peer has from `first` on, proven, and their size in bytes."""
        patience_s = self._sources.patience_s(peer_id)
        with trio.move_on_after(2 * patience_s):  # its hand-overs included
            reply, size = await self._asker.ask(
                peer_id,
                LOG_PROTOCOL,
                encode(LogRequest(first=first)),
                LogReply,
                limit_bytes=MAX_LOG_REPLY_BYTES,
                deadline_s=patience_s,
            )
            self._asker.counts["log_bytes"] += size
            for seq, slot in enumerate(reply.slots, first):
                if seq % CHECKED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                epoch = slot.certificate.header.epoch
                await self._prover.ask(peer_id, epoch)
                voters = self._prover.chain.voters(epoch)
                if voters is None:
                    raise _Left(f"slot {seq} is of epoch {epoch}, whose set it does not prove")
                check_slot(slot, seq, voters, self._verify)
            return reply.slots, size
        raise DeadlineExceededError(f"{peer_id} did not prove its slots in {2 * patience_s:.0f} s")
