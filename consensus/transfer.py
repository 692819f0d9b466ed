"""State transfer: going on from a snapshot instead of the log.

Rules:
19. A snapshot must hash to the state root of a stable checkpoint, which the driver checks; here the
    checkpoint proves itself against its epoch's set. Sets are proven one by one: each former
    epoch's edge checkpoint names the next set and is signed by its own. What does not prove itself
    changes nothing.
8.  A snapshot brings no vows. A node that has lost its own must stay an observer, which is the
    driver's to see to (`me` is None).
"""

from __future__ import annotations

from consensus.certificate import judge_certificate
from consensus.checkpoints import judge_by
from consensus.core import Core, UnwantedError
from consensus.effects import EpochBegan, PersistEpoch
from consensus.epochs import enter_epoch
from consensus.inputs import SnapshotInstalled
from consensus.validators import Voters


def on_snapshot(core: Core, snapshot: SnapshotInstalled) -> None:
    """Take a snapshot's slot as executed and forget what lies below it."""
    checkpoint = snapshot.certificate.checkpoint
    if checkpoint.seq <= core.height:
        raise UnwantedError("stale")
    handovers = [h for h in snapshot.handovers if h.checkpoint.epoch >= core.voters.epoch]
    voters = _voters_at_the_end(core, snapshot)
    if checkpoint.epoch != voters.epoch or snapshot.decided.header.digest != checkpoint.chain_hash:
        raise UnwantedError("wrong_epoch")
    judge_by(voters, snapshot.certificate, core.verify)
    judge_certificate(voters, snapshot.decided, "commit", core.verify)
    for handover in handovers:
        enter_epoch(core, handover)
        core.emit(PersistEpoch(handover))
    core.height, core.height_digest = checkpoint.seq, checkpoint.chain_hash
    core.executed = checkpoint.seq
    core.adopt_tip(snapshot.decided)
    core.stable = snapshot.certificate
    core.forget_executed()
    if handovers:
        core.emit(EpochBegan(core.voters, core.me))


def _voters_at_the_end(core: Core, snapshot: SnapshotInstalled) -> Voters:
    """Return the set that the handovers lead to, each proven by the one before it."""
    voters = core.voters
    for handover in snapshot.handovers:
        checkpoint = handover.checkpoint
        if checkpoint.epoch < core.voters.epoch:
            continue
        if checkpoint.epoch != voters.epoch or checkpoint.next_set is None:
            raise UnwantedError("wrong_epoch")
        judge_by(voters, handover, core.verify)
        voters = Voters(checkpoint.next_set, voters.domain.network_id)
    return voters
