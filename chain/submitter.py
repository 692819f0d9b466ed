"""Carries one certified vector to the chain and says what was seen there.

Rules:
1. Every call to the chain has a deadline, and so has the whole submission.
2. It reads before it writes, and every step is durable before it is taken
   (`chain.submission_state`): a submission may be repeated after any crash, and is sent once.
3. Before an epoch's vector is sent, the fate of what an earlier epoch sent is known, and what it
   had not sent yet is superseded.
4. `preflight` decides. What it refuses is not sent. What is rate limited waits for its block.
5. A call whose fate is unknown is not repeated before it can no longer land. What the chain has
   refused for now is tried again after a growing number of blocks, a few times at most.
6. Inclusion is not application: the stored weights are read afterwards. Hidden weights end as
   `Committed`; what becomes of them is for whoever waits longer (`chain.submitter_epoch`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from chain.errors import ChainError, ChainErrorCode, Retry
from chain.interface import Chain, HotkeySigner, WeightVector
from chain.preflight import Ready, Refused, Wait, preflight, stagger_blocks, without_reused
from chain.submission_state import (
    Limits,
    MemoryKeeper,
    Stage,
    SubmissionKeeper,
    SubmissionRecord,
    judged,
)
from chain.submitter_order import Order, decided
from chain.submitter_outcomes import (
    Committed,
    Included,
    Outcome,
    ReadBack,
    Revealed,
    RevealLost,
    Superseded,
    Undecided,
    outcome_of,
)
from chain.submitter_reads import ChainReader, View, bounded

__all__ = [
    "Committed",
    "Included",
    "Order",
    "Outcome",
    "ReadBack",
    "Ready",
    "Refused",
    "RevealLost",
    "Revealed",
    "Superseded",
    "Undecided",
    "Wait",
    "WeightSubmitter",
    "preflight",
    "stagger_blocks",
]


_NOT_TAKEN = frozenset(
    {
        ChainErrorCode.STALE,
        ChainErrorCode.COMMIT_REVEAL_ENABLED,
        ChainErrorCode.COMMIT_REVEAL_DISABLED,
        ChainErrorCode.INVALID_REVEAL_ROUND,
        ChainErrorCode.SIGNER_FAILED,
    }
)
"""Errors that may pass and say for certain that this call was not, and will not be, applied."""


@dataclass(frozen=True, slots=True)
class WeightSubmitter:
    """How patiently weights are submitted. Times in seconds, the rest in counts or blocks.

    `call_deadline_s` bounds a read, `inclusion_deadline_s` the weights call with its
    finalisation, `overall_deadline_s` everything with all waits. `attempts` bounds the calls sent
    and, apart from that, the failed reads in a row. `stagger_window` spreads the submitters.
    `landing_blocks` is for how long a call may still land: the mortality of what the adapter signs.

    `inclusion_deadline_s` is above all that a write of the SDK's adapter may take, a connection
    included (`write_s + connect_s + grace_s` of its `Deadlines`). The adapter's own deadline must
    come first: by that one its watchdog hears of a connection that has fallen silent.
    """

    call_deadline_s: float = 30.0
    inclusion_deadline_s: float = 180.0
    overall_deadline_s: float = 3600.0
    poll_s: float = 3.0
    longest_pause_s: float = 60.0
    attempts: int = 5
    stagger_window: int = 0
    read_back_blocks: int = 3
    landing_blocks: int = 8

    @property
    def limits(self) -> Limits:
        """What a submission's record is judged by."""
        return Limits(self.landing_blocks, self.read_back_blocks)

    def reader(self, chain: Chain) -> ChainReader:
        """Return a reader of `chain` with this patience."""
        return ChainReader(
            chain, self.call_deadline_s, self.poll_s, self.longest_pause_s, self.attempts
        )

    async def submit(
        self,
        chain: Chain,
        signer: HotkeySigner,
        vector: WeightVector,
        *,
        seed: bytes = b"",
        mechanism: int = 0,
        version_key: int | None = None,
        since_block: int | None = None,
        until_block: int | None = None,
    ) -> Outcome:
        """Submit `vector` with the chain as the only memory; returns what was seen.

        For `since_block` (default: the first block of the present epoch) and the rest see `Order`.
        Raises nothing for what the chain does; the outcome names it.
        """
        try:
            status = await self.reader(chain).present_epoch()
        except ChainError as error:
            return Undecided(error.code, str(error))
        order = Order(
            epoch=status.epoch,
            vector=vector,
            since_block=status.first_block if since_block is None else since_block,
            mechanism=mechanism,
            until_block=until_block,
            seed=seed,
            version_key=version_key,
        )
        return await self.carry(chain, signer, order, MemoryKeeper())

    async def carry(
        self,
        chain: Chain,
        signer: HotkeySigner,
        order: Order,
        keeper: SubmissionKeeper,
        *,
        turn: trio.Lock | None = None,
        on_wait: Callable[[Wait], None] = lambda _: None,
    ) -> Outcome:
        """Bring `order` to the chain, going on from what `keeper` remembers of it.

        `turn` is held while a call is sent: one hotkey's calls share a nonce. `on_wait` is told of
        each wait for the rate limit or the staggered turn. Raises nothing for what the chain or
        the keeper does; the outcome names it.
        """
        carriage = _Carriage(
            self, self.reader(chain), signer, order, keeper, turn or trio.Lock(), on_wait
        )
        outcome: Outcome = Undecided(
            ChainErrorCode.DEADLINE,
            f"not settled within {self.overall_deadline_s} s; look at the chain's head and "
            "endpoint, then submit again",
        )
        with trio.move_on_after(self.overall_deadline_s):
            try:
                outcome = await carriage.run()
            except ChainError as error:
                outcome = Undecided(error.code, str(error))
        return outcome

    async def preview(self, chain: Chain, hotkey: bytes, order: Order) -> Ready | Wait | Refused:
        """Return what would be done with `order` now, sending and remembering nothing.

        Raises `ChainError` when the chain cannot be read.
        """
        view = await self.reader(chain).view(hotkey, order.mechanism)
        vector = without_reused(order.vector, order.holders, view.metagraph)
        return decided(order, hotkey, view, vector, self.stagger_window)


@dataclass
class _Carriage:
    """One run of one order. `record` is always what the keeper holds."""

    settings: WeightSubmitter
    reader: ChainReader
    signer: HotkeySigner
    order: Order
    keeper: SubmissionKeeper
    turn: trio.Lock
    on_wait: Callable[[Wait], None]
    record: SubmissionRecord = field(init=False)
    sent: int = 0
    failure: ChainError | None = None
    pause_s: float = 0.0

    async def run(self) -> Outcome:
        """Go from step to step until one is an outcome."""
        if not await self._open():
            return Superseded(self.order.epoch)
        while True:
            outcome = outcome_of(self.record, already=self.sent == 0)
            if outcome is not None:
                return outcome
            if self.record.stage is Stage.WAITING:
                outcome = await self._try()
                if outcome is not None:
                    return outcome
            else:
                self.record = await self._judge(self.record)

    async def _open(self) -> bool:
        """Load or begin the record; whether it is still worth something (rule 3)."""
        kept = self.keeper.records(self.order.mechanism)
        found = [record for record in kept if record.epoch == self.order.epoch]
        newer = any(record.epoch > self.order.epoch for record in kept)
        if not found and newer:
            return False
        if found:
            self.record = found[0]
        else:
            await self._keep(self.order.record)
        for record in kept:
            if record.epoch < self.order.epoch:
                await self._settle(record)
        if newer and self.record.stage is Stage.REFUSED:
            return False
        if self.record.stage in (Stage.WAITING, Stage.REFUSED):
            renewed = self.record.renewed(self.order.record)
            if renewed != self.record:
                await self._keep(renewed)
        return True

    async def _settle(self, record: SubmissionRecord) -> None:
        """Find out what an earlier epoch's call came to."""
        while record.stage in (Stage.SENDING, Stage.INCLUDED):
            record = await self._judge(record)
        if record.stage is Stage.WAITING:
            await self.keeper.save(record.moved(Stage.SUPERSEDED))

    async def _judge(self, record: SubmissionRecord) -> SubmissionRecord:
        """Return the record after a look at the chain, or a block later when there is no news."""
        view = await self.reader.view(self.signer.public_key, record.mechanism)
        after = judged(record, view.evidence, self.settings.limits)
        if after == record:
            await self.reader.pass_blocks(view.head.number + 1)
        else:
            await self.keeper.save(after)
        return after

    async def _try(self) -> Outcome | None:
        """Send if it is time; else wait. None when the record has to be looked at again."""
        self.pause_s = 0.0
        async with self.turn:
            view = await self.reader.view(self.signer.public_key, self.order.mechanism)
            vector = without_reused(self.record.vector, self.record.holders, view.metagraph)
            if await self._is_there(view, vector):
                return None
            window = self.settings.stagger_window
            decision = decided(self.order, self.signer.public_key, view, vector, window)
            if isinstance(decision, Refused):
                code, reason = decision.code, decision.reason
                await self._keep(self.record.held_back(Stage.REFUSED, code, reason))
                return None
            if isinstance(decision, Wait):
                self.on_wait(decision)
                wait_until = view.head.number + decision.blocks
            elif self.failure is not None and self.sent >= self.settings.attempts:
                return Undecided(self.failure.code, str(self.failure))
            else:
                wait_until = await self._send(view, vector)
        await trio.sleep(self.pause_s)
        await self.reader.pass_blocks(wait_until)
        return None

    async def _is_there(self, view: View, vector: WeightVector) -> bool:
        """Whether the chain needs nothing, because it has what this record was to bring."""
        evidence, since = view.evidence, self.order.since_block
        if not vector:
            return False
        others = len(self.keeper.records(self.order.mechanism)) > 1
        fresh = not others and self.record.calls == 0
        # With records, every commit of ours is in one: only a late call of this one can be new.
        floor = since if fresh else self.record.update_before + 1
        commits = [one for one in evidence.pending if one.block >= floor]
        if commits and (fresh or self.record.calls):
            await self._keep(
                self.record.moved(Stage.COMMITTED, sent=vector, block=commits[0].block)
            )
            return True
        # With commit-reveal equal weights may be older than the update.
        plain = fresh or not evidence.commit_reveal
        if plain and evidence.stored == vector and evidence.last_update >= since:
            await self._keep(
                self.record.moved(Stage.APPLIED, sent=vector, block=evidence.last_update)
            )
            return True
        return False

    async def _send(self, view: View, vector: WeightVector) -> int:
        """Send one call; returns the block before which nothing is to be done."""
        await self._keep(self.record.sending(vector, view.evidence))
        self.sent += 1
        try:
            submitted = await bounded(
                "set_weights",
                self.settings.inclusion_deadline_s,
                lambda: self.reader.chain.set_weights(
                    self.signer,
                    vector,
                    mechanism=self.order.mechanism,
                    version_key=view.key_for(self.order.version_key),
                ),
            )
        except ChainError as error:
            self.failure = error
            return await self._failed(view, error)
        await self._keep(self.record.moved(Stage.INCLUDED, block=submitted.block.number))
        return submitted.block.number

    async def _failed(self, view: View, error: ChainError) -> int:
        """Keep what `error` says of the call; returns the block before which nothing is done."""
        if error.code.retry is Retry.NEVER:
            await self._keep(self.record.held_back(Stage.REFUSED, error.code, str(error)))
            return 0
        backs_off = error.code.retry is Retry.BACK_OFF
        if not backs_off or error.code in _NOT_TAKEN:
            await self._keep(self.record.held_back(Stage.WAITING, error.code, str(error)))
        # Otherwise it is still `sending`: rule 5.
        if backs_off:
            self.pause_s = self.reader.pause_s(self.sent)
            return view.head.number + 1
        if error.code is ChainErrorCode.TOO_MANY_UNREVEALED_COMMITS:  # only an epoch makes room
            return max(view.epoch.next_epoch_block, view.head.number + 1)
        return view.head.number + max(error.wait_blocks or 0, 1 << (self.sent - 1))

    async def _keep(self, record: SubmissionRecord) -> None:
        await self.keeper.save(record)
        self.record = record
