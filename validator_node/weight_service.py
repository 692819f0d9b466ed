"""Weights: watches the chain's epochs, and carries each certified vector to the chain.

Rules:
1. When the chain has begun an epoch since the state's began, this validator states an observation
   of its first block, and offers the metagraph that it read there for the batches. A quorum of
   equal observations and that metagraph close the epoch at execution, which computes the weights:
   nobody proposes them, everybody derives them. The network counts its own epochs: one of the
   chain's that began while the network stood still is skipped, not made up for.
2. A vector is submitted only once the state root that contains it is named by a decided batch, that
   is W slots after the epoch was closed. Each mechanism has one.
3. An empty vector is never submitted: it raises an alert, and is replaced by the last certified one
   only if the operator wants that. The end of this hotkey's registration raises an alert, too; a
   node whose hotkey was never registered only watches.
4. Only the newest closed epoch is submitted; a newer one supersedes a submission that still waits.
   Restarting is safe: what was attempted is on the disk (`chain.submitter_epoch`). A node that was
   away closes old epochs one after the other. A vector of one that the chain has left would spend
   the rate limit which the next one needs, so it is held until the chain's epoch is half over.
5. Trouble with a call to the chain is counted and tried again. The node ends only when the chain is
   given up (`ChainLostError`, raised by the connection and not here): no new final block on any
   endpoint for `chain_hopeless_s`, or too many hung threads.
6. A set that stays because too few could follow it, a challenge that pays nobody, a masked hotkey
   and weights that only fill the chain's least length are counted and logged once an epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog
import trio

from chain.errors import ChainError, ChainErrorCode
from chain.interface import HotkeySigner
from chain.metagraph import epoch_metagraph
from chain.preflight import Refused
from chain.submission_state import SubmissionKeeper
from chain.submitter_epoch import Alert, EpochSubmitter, OnNoWeights
from chain.submitter_outcomes import Committed, Outcome, ReadBack, Revealed
from protocol.codec import digest_of
from protocol.records.metagraph import EpochMetagraph, MetagraphFormError
from protocol.records.statement import Observation
from protocol.records.weights import EpochWeights
from registry.access import neuron
from registry.election import electorate
from validator_node.chain_access import ChainAccess, patience
from validator_node.epoch_order import epoch_order
from validator_node.speaker import Speaker
from validator_node.store import Store

LOOK_DEADLINE_S = 60.0
READ_AGAIN_AFTER = 10
"""Looks at the chain after which a metagraph that is not agreed on is read again."""
HELD_SHARE = 2
"""The weights of an epoch that the chain has left are held for the first half of its newest one:
so long the network has time to close that one, too, and its weights go first."""

log = structlog.get_logger(__name__)


class WeightService:
    """Observes epochs and submits weights. Run `run` in the node's nursery."""

    def __init__(
        self,
        store: Store,
        access: ChainAccess,
        speaker: Speaker,
        signer: HotkeySigner,
        offer: Callable[[EpochMetagraph], None],
        book: SubmissionKeeper,
        *,
        on_no_weights: OnNoWeights = "abstain",
    ) -> None:
        """`offer` takes the metagraph of the next epoch, for the batches."""
        self._store = store
        self._chain = access.chain
        self.status = access.status
        self._speaker = speaker
        self._signer = signer
        self._offer = offer
        self._read: EpochMetagraph | None = None
        self._awaited = (-1, -1)
        """The epoch that the network has to begin, and the chain's block that begins it."""
        self._looks = 0
        # records tell of a registration that ended while the node was down
        self._registered = self._is_registered() or bool(book.mechanisms())
        self._poll_s = access.poll_s
        self.alerts: Counter[str] = Counter()
        self.submitter = EpochSubmitter(
            access.chain,
            signer,
            book,
            patience(access, store.genesis),
            on_no_weights=on_no_weights,
            on_alert=self._on_alert,
        )
        self._closed: EpochWeights | None = None
        self._closed_at_height = 0
        self._newer = trio.Event()
        self.block = 0
        self._begun = -1
        """First block of the chain's newest epoch, as of `block`; -1 before the first look."""
        self.submitted_epoch = -1
        """The last epoch whose vectors, as far as it has any, are all on the chain."""

    def on_closed(self, weights: EpochWeights, height: int) -> None:
        """Take the weights of an epoch that the batch at `height` closed."""
        self._closed = weights
        self._closed_at_height = height
        self._newer.set()
        self._newer = trio.Event()

    def resume(self) -> None:
        """After a restart, submit the newest closed epoch again unless the chain holds it."""
        epoch = self._store.epoch
        weights = self._store.weights(epoch - 1) if epoch > 0 else None
        now = electorate(self._store.tree.view())
        if weights is not None and now is not None:
            self.on_closed(weights, now.since)

    async def run(self) -> None:
        """Watch and submit for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._submit_all)
            nursery.start_soon(self.submitter.watch_reveals)

    # --- watching ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                with trio.fail_after(LOOK_DEADLINE_S):
                    await self._look()
            except ChainError as error:
                self.alerts[f"chain_{error.code.value}"] += 1
                log.warning("chain", error=str(error))
            except trio.TooSlowError:
                self.alerts["chain_deadline"] += 1
                log.warning("chain", error=f"no look at it within {LOOK_DEADLINE_S:g} s")
            except MetagraphFormError as error:
                self.alerts[error.reason] += 1
                log.exception("the chain's metagraph fits into no batch, the epoch goes on")
            await trio.sleep(self._poll_s)

    async def _look(self) -> None:
        head = await self._chain.head()
        wanted = self._store.epoch + 1
        status = await self._chain.epoch_status(head.number)
        self.block, self._begun = head.number, status.first_block
        if status.first_block <= self._last_end():
            return
        found = await self._metagraph(status.first_block, wanted)
        self._speaker.add(
            Observation(
                epoch=wanted,
                block=found.block,
                block_hash=found.block_hash,
                snapshot_hash=digest_of(found),
            )
        )
        self._offer(found)

    async def _metagraph(self, block: int, epoch: int) -> EpochMetagraph:
        """Return the metagraph after `block`, read again now and then."""
        self._looks += 1
        known = self._read
        stale = known is None or known.epoch != epoch or known.block != block
        before, self._awaited = self._awaited, (epoch, block)
        if before[0] == epoch and before[1] < block:
            self.alerts["epoch_not_ended"] += 1
            log.error("the chain has begun another epoch, the network's has not ended", block=block)
        if known is None or stale or self._looks % READ_AGAIN_AFTER == 0:
            read = await self._chain.metagraph(block)
            known = self._read = epoch_metagraph(read, epoch)
        return known

    def _last_end(self) -> int:
        """Return the chain block that ended the last closed epoch."""
        closed = self._store.weights(self._store.epoch - 1) if self._store.epoch > 0 else None
        return self._store.genesis.chain.start_block if closed is None else closed.block

    # --- submitting --------------------------------------------------------------------------

    def _is_registered(self) -> bool:
        return neuron(self._store.tree.view(), self._signer.public_key) is not None

    async def _submit_all(self) -> None:
        done = -1
        while True:
            weights = self._closed
            due = weights is not None and self._is_certified() and self._is_due(weights)
            if weights is not None and due and weights.epoch > done:
                await self._submit_epoch(weights)
                done = weights.epoch
            await trio.sleep(self._poll_s / 2)

    def _is_certified(self) -> bool:
        window = self._store.genesis.parameters.window
        return self._store.height >= self._closed_at_height + window

    def _is_due(self, weights: EpochWeights) -> bool:
        """Return whether the chain has begun no newer epoch, or this one waited enough (rule 4)."""
        held = self._store.genesis.chain.tempo // HELD_SHARE
        late = self.block >= self._begun + held
        return self._begun >= 0 and (self._begun <= weights.block or late)

    async def _submit_epoch(self, weights: EpochWeights) -> None:
        """Submit each mechanism's vector, unless this hotkey is no neuron (rule 3)."""
        self._tell(weights)
        if not self._is_registered():
            if self._registered:
                self.alerts["not_registered"] += 1
                log.error("this hotkey is not registered any more: no weights are submitted")
            return
        self._registered = True
        order = epoch_order(self._store.tree.view(), weights)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_superseded, weights.epoch, nursery.cancel_scope)
            outcomes = await self.submitter.settle(order)
            if all(_is_carried(outcome) for outcome in outcomes.values()):
                self.submitted_epoch = weights.epoch
            nursery.cancel_scope.cancel()
        for mechanism, (epoch, outcome) in self.submitter.outcomes.items():
            if epoch == weights.epoch:
                _tell_outcome(epoch, mechanism, outcome)

    def _tell(self, weights: EpochWeights) -> None:
        """Say what is unusual about an epoch's weights; nothing of it is silent (rule 6)."""
        now = electorate(self._store.tree.view())
        if now is not None and now.reason:
            self.alerts[f"set_kept_{now.reason}"] += 1
            log.warning("the validator set stays as it is", reason=now.reason)
        for share in weights.shares:
            if share.reason:
                self.alerts[f"unpaid_{share.reason}"] += 1
                log.warning(
                    "a challenge pays nobody, the others of its mechanism pay more",
                    epoch=weights.epoch,
                    challenge=share.challenge_id,
                    reason=share.reason,
                )
        for one in weights.masked:
            self.alerts[f"masked_{one.reason}"] += 1
            log.info("masked", epoch=weights.epoch, uid=one.uid, reason=one.reason)
        padded = [one.padded for one in weights.mechanisms if one.padded]
        if padded:
            self.alerts["padded"] += 1
            log.warning("weights filled up to the chain's least length", uids=padded)

    def _on_alert(self, alert: Alert) -> None:
        self.alerts[alert.name] += 1
        log.error(
            "weights",
            alert=alert.name.value,
            epoch=alert.epoch,
            mechanism=alert.mechanism,
            code=None if alert.code is None else alert.code.value,
            reason=alert.reason,
            advice=alert.advice,
        )

    def _is_newest(self, epoch: int) -> bool:
        return self._closed is not None and self._closed.epoch == epoch

    async def _cancel_when_superseded(self, epoch: int, scope: trio.CancelScope) -> None:
        while self._is_newest(epoch):
            await self._newer.wait()
        scope.cancel()  # the newer epoch's submission says so, if this one was not sent


def _is_carried(outcome: Outcome) -> bool:
    """Return whether the chain has what there was to carry; of an empty vector that is nothing."""
    if isinstance(outcome, Refused):
        return outcome.code is ChainErrorCode.EMPTY_VECTOR
    return isinstance(outcome, ReadBack | Committed | Revealed)


def _tell_outcome(epoch: int, mechanism: int, outcome: Outcome) -> None:
    about = {"epoch": epoch, "mechanism": mechanism, "outcome": str(outcome)}
    if not _is_carried(outcome):
        log.error("weights not on the chain", **about)
    elif isinstance(outcome, Refused):
        log.info("no weights to carry to the chain", **about)
    else:
        log.info("weights carried to the chain", **about)
