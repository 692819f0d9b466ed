"""What is to be carried to the chain, and whether it may go now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from chain.errors import ChainErrorCode
from chain.interface import WeightVector
from chain.preflight import Ready, Refused, Wait, preflight, stagger_blocks, vector_fault
from chain.submission_state import SubmissionRecord
from chain.submitter_reads import View

LEAST_EPOCH_WINDOWS = 8
"""An epoch is at least so many times as long as the window that submitters are spread over."""


@dataclass(frozen=True, slots=True)
class Order:
    """One certified vector, and when it counts.

    `since_block` is the first block after its epoch closed: weights set before it are not this
    submission's, even if equal, and the stagger counts from it. `until_block` is where the vector
    is superseded. `seed` is shared by the validators and differs by epoch (a digest of the
    certified weights, say). `version_key` None is what the subnet asks for when the call is made.
    See `SubmissionRecord` for the rest.
    """

    epoch: int
    vector: WeightVector
    since_block: int
    mechanism: int = 0
    holders: tuple[bytes, ...] = ()
    source_epoch: int | None = None
    until_block: int | None = None
    seed: bytes = b""
    version_key: int | None = None

    @property
    def record(self) -> SubmissionRecord:
        """The record that the submission begins with."""
        return SubmissionRecord(
            epoch=self.epoch,
            mechanism=self.mechanism,
            source_epoch=self.epoch if self.source_epoch is None else self.source_epoch,
            since_block=self.since_block,
            vector=self.vector,
            holders=self.holders,
        )


def decided(
    order: Order, hotkey: bytes, view: View, vector: WeightVector, stagger_window: int
) -> Ready | Wait | Refused:
    """Return what `preflight` says of `vector`, which is the order's without reused uids.

    The stagger takes an eighth of the present epoch at most: a subnet's tempo may have become
    shorter than the one that `stagger_window` (in blocks) was chosen for.
    """
    if order.vector and not vector:
        return Refused(
            ChainErrorCode.EMPTY_VECTOR,
            f"so many of the {len(order.vector)} uids have changed hands since their evaluation "
            "that none is left, or too few for the largest weight that the subnet allows; nothing "
            "is sent in their place, the next epoch's weights are of the new holders",
        )
    fault = vector_fault(vector)
    if fault is not None:
        return fault
    epoch = view.epoch
    window = min(
        stagger_window, (epoch.next_epoch_block - epoch.first_block) // LEAST_EPOCH_WINDOWS
    )
    return preflight(
        view.metagraph,
        epoch,
        hotkey,
        view.head.number,
        view.rate_limit,
        vector,
        mechanism=order.mechanism,
        version_key=view.key_for(order.version_key),
        last_update=view.evidence.last_update,
        not_before=order.since_block + stagger_blocks(order.seed, hotkey, window),
        until_block=order.until_block,
    )
