"""Recovery: a replica's state after a restart, from what it made durable.

Rules:
7.  Own votes come back exactly as they were signed, so nothing is signed twice.
10. Restart in the floor view. Without its NEW-VIEW (or view 0) the replica is `changing`: it signs
    nothing in that view until the NEW-VIEW arrives.
8.  What was persisted last wins; a torn final group was never acted on, so losing it is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.agreement import accept
from consensus.core import Core
from consensus.effects import Persist, PersistEpoch, PersistFloor, PersistNote, PersistVow
from consensus.epochs import enter_epoch
from consensus.inputs import Edge
from consensus.messages import NewView, PrePrepare, ViewChange, Vote
from consensus.succession import adopt_selection, select
from protocol.records.batch import Certificate
from protocol.records.checkpoint import CheckpointCertificate, CheckpointVote


def restore(
    core: Core,
    executed: Certificate | None,
    stable: CheckpointCertificate | None,
    edge: Edge | None,
    persisted: Iterable[Persist],
) -> None:
    """Bring a fresh `core` to where the journal and the ledger say it was.

    `executed` is the certificate of the last executed slot (None at genesis), `stable` the newest
    stable checkpoint that was kept, `edge` the end of the epoch if the executed state has fixed it;
    `persisted` are the journal's records, oldest first.
    """
    records = list(persisted)
    if executed is not None:
        core.height, core.height_digest = executed.header.seq, executed.header.digest
        core.executed = core.height
        core.delivered[core.height] = core.height_digest
    for record in records:
        if isinstance(record, PersistEpoch):
            _restore_epoch(core, record.certificate)
    epoch = core.voters.epoch
    if executed is not None and executed.header.epoch == epoch and core.height > core.tip_seq:
        core.tip_seq, core.tip_digest = core.height, core.height_digest
        core.tip_certificate = executed
    if stable is not None and stable.checkpoint.epoch == epoch:
        core.stable = stable
    if edge is not None and edge.next_set.epoch == epoch + 1:
        core.edge = edge
    notes = [r for r in records if isinstance(r, PersistNote) and r.epoch == epoch]
    vows = [r for r in records if isinstance(r, PersistVow) and r.epoch == epoch]
    floors = [r.view for r in records if isinstance(r, PersistFloor) and r.epoch == epoch]
    core.view = max(floors + [vow.view for vow in vows], default=0)
    _restore_tip(core, notes)
    _restore_view(core, notes, vows)
    _restore_slots(core, notes)
    for vow in vows:
        lowest = core.height if vow.phase == "commit" else core.tip_seq
        if isinstance(vow.message, Vote) and vow.seq > lowest:
            _restore_vote(core, vow.message)
        elif isinstance(vow.message, CheckpointVote) and vow.seq > core.stable_seq:
            core.checkpoint_votes.setdefault(vow.seq, {})[vow.message.signer] = vow.message
            core.own_checkpoints[vow.seq] = vow.message.checkpoint
    core.forget_executed()
    core.take_effects()


def _restore_epoch(core: Core, certificate: CheckpointCertificate) -> None:
    if certificate.checkpoint.epoch >= core.voters.epoch:
        enter_epoch(core, certificate)


def _restore_tip(core: Core, notes: list[PersistNote]) -> None:
    for note in notes:
        if note.kind == "tip" and isinstance(note.record, Certificate):
            header = note.record.header
            if header.seq > core.height:
                slot = core.slot(header.seq)
                slot.headers[header.digest] = header
                slot.decided = note.record
            core.adopt_tip(note.record)


def _restore_view(core: Core, notes: list[PersistNote], vows: list[PersistVow]) -> None:
    core.changing = core.view > 0
    for record in [vow.message for vow in vows] + [note.record for note in notes]:
        if isinstance(record, NewView) and record.view == core.view:
            core.changing = False
            core.new_view = record
            adopt_selection(core, select(record.view_changes, core.epoch_base))
    for vow in vows:
        if isinstance(vow.message, ViewChange) and vow.view == core.view and core.changing:
            core.own_view_change = vow.message
            core.view_changes[vow.message.signer] = vow.message


def _restore_slots(core: Core, notes: list[PersistNote]) -> None:
    for note in notes:
        if note.seq <= core.height:
            continue
        record = note.record
        if note.kind == "prepared" and isinstance(record, Certificate):
            slot = core.slot(note.seq)
            slot.headers[record.header.digest] = record.header
            if slot.prepared is None or record.view >= slot.prepared.view:
                slot.prepared = record
        elif isinstance(record, PrePrepare):
            slot = core.slot(note.seq)
            slot.headers[record.header.digest] = record.header
            slot.bodies[record.header.digest] = record.batch
            if note.view == core.view and not core.changing and note.seq > core.tip_seq:
                slot.proposal = record
                slot.approvals.add(record.vote)


def _restore_vote(core: Core, vote: Vote) -> None:
    slot = core.slot(vote.seq)
    (slot.commits if vote.kind == "commit" else slot.approvals).add(vote)
    if vote.view != core.view or core.changing:
        return
    if vote.kind == "prepare" and vote.digest in slot.headers:
        accept(core, slot.headers[vote.digest])
    elif vote.kind == "commit":
        slot.committed = vote.digest
    elif vote.kind == "reject":
        slot.rejected = True


def live_records(core: Core) -> list[Persist]:
    """Return what a journal must still hold, so that its older segments may go.

    The bodies of open slots are not repeated: they stand in the newest segments, which stay.
    """
    epoch = core.voters.epoch
    records: list[Persist] = []
    if epoch - 1 in core.handovers:
        records.append(PersistEpoch(core.handovers[epoch - 1]))
    records.append(PersistFloor(epoch, core.view))
    if core.tip_certificate is not None:
        tip = core.tip_certificate
        records.append(PersistNote("tip", epoch, tip.view, tip.header.seq, tip))
    if core.new_view is not None:
        records.append(PersistNote("new-view", epoch, core.new_view.view, 0, core.new_view))
    for seq, slot in sorted(core.slots.items()):
        if slot.prepared is not None:
            records.append(PersistNote("prepared", epoch, slot.prepared.view, seq, slot.prepared))
        if slot.proposal is not None:
            records.append(PersistNote("proposal", epoch, core.view, seq, slot.proposal))
    return records
