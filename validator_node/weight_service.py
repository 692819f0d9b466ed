"""Weights: watches the chain's epochs, and carries each certified vector to the chain.

Rules:
1. When the chain's head has passed the end of the state's epoch, this validator states an
   observation of the first block of the next one. A quorum of equal observations closes the epoch
   at execution, which computes the weights: nobody proposes them, everybody derives them.
2. A vector is submitted only once the state root that contains it is named by a decided batch, that
   is W slots after the epoch was closed.
3. An empty vector is never submitted and never replaced by anything: it raises an alert.
4. Only the newest closed epoch is submitted; a newer one supersedes a submission that still waits.
   Restarting is safe, because the submitter reads the chain before it writes.
5. Trouble with the chain is counted and tried again; it never stops the node.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import structlog
import trio

from chain.errors import ChainError
from chain.interface import Block, Chain, EpochStatus, HotkeySigner, Metagraph
from chain.submitter import Outcome, ReadBack, WeightSubmitter
from protocol.codec import U16, U64, Digest, Record, digest_of, sha256
from protocol.records.statement import Observation
from protocol.records.weights import EpochWeights
from validator_node.speaker import Speaker
from validator_node.store import Store

CALL_DEADLINE_S = 10.0
MAX_EPOCHS_BEHIND = 100_000

log = structlog.get_logger(__name__)


class SnapshotNeuron(Record):
    """A neuron as an epoch's snapshot sees it."""

    uid: U16
    hotkey: Digest
    stake: U64
    validator_permit: bool


def snapshot_hash(metagraph: Metagraph) -> bytes:
    """Return the digest over (uid, hotkey, stake, permit) of all neurons, in uid order."""
    return sha256(
        *(
            digest_of(
                SnapshotNeuron(
                    uid=neuron.uid,
                    hotkey=neuron.hotkey,
                    stake=neuron.stake,
                    validator_permit=neuron.validator_permit,
                )
            )
            for neuron in metagraph.neurons
        )
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of one epoch's vector."""

    epoch: int
    outcome: Outcome


class WeightService:
    """Observes epochs and submits weights. Run `run` in the node's nursery."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        speaker: Speaker,
        signer: HotkeySigner,
        *,
        poll_s: float,
    ) -> None:
        self._store = store
        self._chain = chain
        self._speaker = speaker
        self._signer = signer
        self._poll_s = poll_s
        self._submitter = WeightSubmitter(poll_s=poll_s)
        self._closed: EpochWeights | None = None
        self._closed_at_height = 0
        self._newer = trio.Event()
        self.block = 0
        self.submitted: Submission | None = None
        self.alerts: Counter[str] = Counter()

    def on_closed(self, weights: EpochWeights, height: int) -> None:
        """Take the weights of an epoch that the batch at `height` closed."""
        self._closed = weights
        self._closed_at_height = height
        self._newer.set()
        self._newer = trio.Event()

    def resume(self) -> None:
        """After a restart, submit the newest closed epoch again unless the chain holds it."""
        epoch = self._store.epoch
        if epoch > 0:
            weights = self._store.weights(epoch - 1)
            if weights is not None:
                self.on_closed(weights, self._store.height - self._store.genesis.parameters.window)

    async def run(self) -> None:
        """Watch and submit for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._submit_all)

    # --- watching ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                with trio.fail_after(CALL_DEADLINE_S):
                    await self._look()
            except (ChainError, trio.TooSlowError) as error:
                self.alerts["chain_unreachable"] += 1
                log.warning("chain", error=str(error) or "no answer in time")
            await trio.sleep(self._poll_s)

    async def _look(self) -> None:
        head = await self._chain.head()
        self.block = head.number
        wanted = self._store.epoch + 1
        status = await self._first_status(head, wanted)
        if status is None:
            return
        metagraph = await self._chain.metagraph(status.first_block)
        self._speaker.add(
            Observation(
                epoch=wanted,
                block=status.first_block,
                block_hash=metagraph.block.block_hash,
                snapshot_hash=snapshot_hash(metagraph),
            )
        )

    async def _first_status(self, head: Block, wanted: int) -> EpochStatus | None:
        """Return the chain's epoch `wanted`, if its first block is final."""
        status = await self._chain.epoch_status(head.number)
        for _ in range(MAX_EPOCHS_BEHIND):
            if status.epoch <= wanted:
                break
            status = await self._chain.epoch_status(status.first_block - 1)
        return status if status.epoch == wanted else None

    # --- submitting --------------------------------------------------------------------------

    async def _submit_all(self) -> None:
        done = -1
        while True:
            weights = self._closed
            if weights is not None and weights.epoch > done and self._is_certified():
                await self._submit(weights)
                done = weights.epoch
            await trio.sleep(self._poll_s / 2)

    def _is_certified(self) -> bool:
        window = self._store.genesis.parameters.window
        return self._store.height >= self._closed_at_height + window

    async def _submit(self, weights: EpochWeights) -> None:
        vector = tuple((entry.uid, entry.weight) for entry in weights.vector)
        if not vector:
            self.alerts["no_weights"] += 1
            log.error("epoch without weights, nothing is submitted", epoch=weights.epoch)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_superseded, weights.epoch, nursery.cancel_scope)
            outcome = await self._submitter.submit(
                self._chain, self._signer, vector, since_block=weights.block
            )
            self.submitted = Submission(weights.epoch, outcome)
            nursery.cancel_scope.cancel()
        if isinstance(self.submitted.outcome if self.submitted else None, ReadBack):
            log.info("weights read back from the chain", epoch=weights.epoch, vector=vector)
        else:
            self.alerts["weights_not_seen"] += 1
            log.error("weights not seen on the chain", epoch=weights.epoch, outcome=str(outcome))

    async def _cancel_when_superseded(self, epoch: int, scope: trio.CancelScope) -> None:
        while self._closed is not None and self._closed.epoch == epoch:
            await self._newer.wait()
        self.alerts["superseded"] += 1
        log.error("weights superseded before they were submitted", epoch=epoch)
        scope.cancel()
