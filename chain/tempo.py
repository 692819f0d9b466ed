"""Epochs that begin at block 0 and last `tempo` blocks each.

The rule of the embedded chain only. A live subtensor moves its epochs (a pending epoch, a changed
tempo, a 50,400-block bound), so a node asks `Chain.epoch_status` and never computes them itself.
All functions are pure; blocks and tempo are counts.
"""

from __future__ import annotations

from chain.interface import EpochStatus


def epoch_status_at(block: int, tempo: int) -> EpochStatus:
    """Return the epoch of `block`: epoch e covers [e * tempo, (e + 1) * tempo).

    By hand, tempo 10: block 0 and block 9 are of epoch 0; block 10 opens epoch 1, which ends
    before block 20. Raises `ValueError` for a negative block or a tempo below 1.
    """
    if block < 0 or tempo < 1:
        raise ValueError(f"block {block}, tempo {tempo}: want a block >= 0 and a tempo >= 1")
    epoch = block // tempo
    return EpochStatus(epoch=epoch, first_block=epoch * tempo, next_epoch_block=(epoch + 1) * tempo)


def blocks_left(status: EpochStatus, block: int) -> int:
    """Return how many blocks are to come before the next epoch opens, never below 0."""
    return max(0, status.next_epoch_block - block)


def closed_epoch(status: EpochStatus) -> tuple[int, int] | None:
    """Return (epoch, last block) of the epoch that closed last, or None during epoch 0."""
    if status.epoch == 0:
        return None
    return status.epoch - 1, status.first_block - 1
