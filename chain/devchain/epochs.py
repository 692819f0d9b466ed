"""When the subnet's epoch runs, and which epoch a block belongs to. Pure; figures in blocks.

An epoch runs at a block if one was asked for and is due, if `tempo` blocks lie between it and the
last one, or if none has run for 50,400 blocks. With tempo 0 none ever runs. The last block, the
index and what is pending are state, so the schedule follows a changed tempo at once.
"""

from __future__ import annotations

from msgspec.structs import replace

from chain.devchain.state import EpochClock, State

LONGEST_EPOCH_BLOCKS = 50_400


def epoch_is_due(state: State, block: int) -> bool:
    """Return whether the epoch runs at `block`, the state being that before it."""
    tempo, clock = state.rules.tempo, state.epochs
    if tempo == 0:
        return False
    return (
        0 < clock.pending_at <= block
        or clock.blocks_since_step > LONGEST_EPOCH_BLOCKS
        or block - clock.last_block >= tempo
    )


def next_epoch_block(state: State) -> int | None:
    """Return the block at which the next epoch is expected, None with tempo 0."""
    if state.rules.tempo == 0:
        return None
    regular = state.epochs.last_block + state.rules.tempo
    return min(regular, state.epochs.pending_at) if state.epochs.pending_at else regular


def current_epoch(state: State, block: int) -> int:
    """Return the epoch of a commit or reveal at `block`: the next one if it runs right there."""
    return state.epochs.index + int(epoch_is_due(state, block))


def stepped(state: State, block: int) -> State:
    """Return the state after the epoch's part of `block`."""
    clock = replace(state.epochs, blocks_since_step=state.epochs.blocks_since_step + 1)
    state = replace(state, epochs=clock)
    if not epoch_is_due(state, block):
        return state
    return replace(state, epochs=EpochClock(index=clock.index + 1, last_block=block))
