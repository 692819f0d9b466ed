"""Epochs: handing agreement from one validator set to the next.

Rules:
12. Execution at slot n fixes the edge = n + W and the next set; nobody signs for a slot beyond the
    edge, because a slot is signed only when the one W before it is executed here. A checkpoint is
    forced at the edge and names the next set. Epoch e + 1 starts at edge + 1 in view 0, its parent
    the digest at the edge, once that checkpoint is stable under set e. Members that left follow as
    observers. A certificate is judged by the set of its own epoch.
13. The stake cap applies to each set (`validators`).
"""

from __future__ import annotations

from consensus.core import Core
from consensus.effects import Broadcast, EpochBegan, PersistEpoch
from consensus.patience import own_status
from consensus.validators import Voters
from protocol.records.checkpoint import CheckpointCertificate

MAX_OLD_SETS = 16
"""Former sets kept to judge certificates of slots that are still being fetched."""


def is_due(core: Core) -> bool:
    """Return whether the epoch's last slot is executed and its checkpoint stable."""
    stable = core.stable
    return (
        stable is not None
        and stable.checkpoint.epoch == core.voters.epoch
        and stable.checkpoint.next_set is not None
        and core.executed >= stable.checkpoint.seq
    )


def begin_epoch(core: Core) -> None:
    """Enter the next epoch, durably, before anything is signed in it."""
    if core.stable is None:
        raise AssertionError("an epoch begins from a stable checkpoint")
    enter_epoch(core, core.stable)
    core.emit(PersistEpoch(core.stable))
    core.emit(EpochBegan(core.voters, core.me))
    core.emit(Broadcast(own_status(core)))


def enter_epoch(core: Core, certificate: CheckpointCertificate) -> None:
    """Set the replica's state to the first moment of the epoch that `certificate` opens."""
    checkpoint = certificate.checkpoint
    if checkpoint.next_set is None:
        raise AssertionError(f"checkpoint {checkpoint.seq} is not at an edge")
    core.old_sets[core.voters.epoch] = core.voters.ending(checkpoint.seq)
    while len(core.old_sets) > MAX_OLD_SETS:
        del core.old_sets[min(core.old_sets)]
    core.handovers[checkpoint.epoch] = certificate
    while len(core.handovers) > MAX_OLD_SETS:
        del core.handovers[min(core.handovers)]
    network_id = core.voters.domain.network_id
    core.voters = Voters(checkpoint.next_set, network_id, after=checkpoint.seq)
    core.me = core.own_index(core.voters)
    core.stable = certificate
    core.edge = None
    core.epoch_base = (checkpoint.seq, checkpoint.chain_hash)
    core.view, core.changing, core.base_seq = 0, False, checkpoint.seq
    core.tip_seq, core.tip_digest, core.tip_certificate = *core.epoch_base, None
    core.view_changes, core.own_view_change, core.new_view = {}, None, None
    core.checkpoint_votes, core.own_checkpoints, core.known_evidence = {}, {}, {}
    core.slots = {seq: slot for seq, slot in core.slots.items() if seq <= checkpoint.seq}
