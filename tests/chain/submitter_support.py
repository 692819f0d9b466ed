"""What the tests of the submitter share: keepers that fail, and a node that dies and comes back."""

from __future__ import annotations

from pathlib import Path

from chain.interface import Chain, WeightVector
from chain.submission_state import SubmissionRecord
from chain.submitter import WeightSubmitter
from chain.submitter_epoch import Alert, Certified, EpochOrder, EpochSubmitter, OnNoWeights
from tests.chain.support import ALICE, VALIDATORS, VECTOR, Hotkey
from validator_node.submission_book import SubmissionBook

HOLDERS = tuple(VALIDATORS[uid].public_key for uid, _ in VECTOR)
PATIENCE = WeightSubmitter(poll_s=0.5, landing_blocks=4)


class Crash(BaseException):
    """The process ends here; nothing may catch it."""


def book(folder: Path, key: Hotkey = ALICE) -> SubmissionBook:
    return SubmissionBook.open(folder, network_id=bytes(32), hotkey=key.public_key, in_thread=False)


class DyingBook:
    """A book whose process ends at the `at`-th save (from 0), before or after it is on the disk."""

    def __init__(self, inner: SubmissionBook, at: int, *, after: bool) -> None:
        self._inner = inner
        self._at = at
        self._after = after
        self.saves = 0

    def records(self, mechanism: int) -> tuple[SubmissionRecord, ...]:
        return self._inner.records(mechanism)

    def mechanisms(self) -> tuple[int, ...]:
        return self._inner.mechanisms()

    async def save(self, record: SubmissionRecord) -> None:
        dies = self.saves == self._at
        self.saves += 1
        if not dies or self._after:
            await self._inner.save(record)
        if dies:
            raise Crash


class Node:
    """The submitting part of a node, on a disk that outlives it."""

    def __init__(
        self,
        chain: Chain,
        keeper: SubmissionBook | DyingBook,
        *,
        patience: WeightSubmitter = PATIENCE,
        on_no_weights: OnNoWeights = "abstain",
    ) -> None:
        self.keeper = keeper
        self.alerts: list[Alert] = []
        self.submitter = EpochSubmitter(
            chain,
            ALICE,
            keeper,
            patience,
            on_no_weights=on_no_weights,
            on_alert=self.alerts.append,
        )

    @property
    def raised(self) -> list[tuple[str, int, int]]:
        """The alerts, as (name, epoch, mechanism)."""
        return [(str(one.name), one.epoch, one.mechanism) for one in self.alerts]

    def stages(self, mechanism: int = 0) -> dict[int, str]:
        """The stage of each epoch's record."""
        return {one.epoch: str(one.stage) for one in self.keeper.records(mechanism)}


def order(
    epoch: int = 1,
    since_block: int = 0,
    *vectors: WeightVector,
    until_block: int | None = None,
    known: bool = True,
) -> EpochOrder:
    """An epoch's order: a vector for each mechanism from 0 on, `VECTOR` if none is given."""
    return EpochOrder(
        epoch=epoch,
        since_block=since_block,
        until_block=until_block,
        vectors=tuple(
            Certified(
                mechanism,
                vector,
                tuple(VALIDATORS[uid].public_key for uid, _ in vector) if known else (),
            )
            for mechanism, vector in enumerate(vectors or (VECTOR,))
        ),
    )
