"""Catch-up: answering those who lag, and learning from those who are ahead.

Rules:
19. A commit certificate proves itself: a decided slot may come from anybody. What extends neither
    our chain nor proves itself is dropped and its sender counted.
9.  A valid certificate of a higher view raises the floor; the replica then waits for that view's
    NEW-VIEW, which its peers send on STATUS.
"""

from __future__ import annotations

from consensus.core import Core, UnwantedError
from consensus.effects import Send, SendBody, SendCheckpoint, SendDecided
from consensus.messages import BatchBody, DecidedSlot, FetchBatch, Status
from consensus.patience import own_status

MAX_DECIDED_PER_STATUS = 64
"""Slots sent in answer to one STATUS; the receiver asks again from its new height."""


def on_status(core: Core, peer: int, status: Status) -> None:
    """Send `peer` what it misses (rule 10)."""
    if status.height < core.height:
        last = min(core.height, status.height + MAX_DECIDED_PER_STATUS)
        core.emit(SendDecided(peer, status.height + 1, last))
    if status.epoch > core.voters.epoch:
        core.emit(Send(peer, own_status(core)))
        return
    if status.epoch < core.voters.epoch:
        handover = core.handovers.get(status.epoch)
        core.emit(Send(peer, handover) if handover else SendCheckpoint(peer, status.epoch))
        return
    send_checkpoint_vote(core, peer, status.height)
    if core.changing:
        if core.own_view_change is not None and status.view <= core.view:
            core.emit(Send(peer, core.own_view_change))
        return
    behind = status.view < core.view or (status.view == core.view and status.changing)
    if behind and core.new_view is not None and core.new_view.view == core.view:
        core.emit(Send(peer, core.new_view))
    if status.view <= core.view:
        send_open_slots(core, peer, status.height)


def send_checkpoint_vote(core: Core, peer: int, height: int) -> None:
    """Send what may be missing of the newest checkpoint: its certificate or our vote."""
    if core.stable is not None and core.stable_seq >= height:
        core.emit(Send(peer, core.stable))
    for votes in core.checkpoint_votes.values():
        if core.me in votes:
            core.emit(Send(peer, votes[core.me]))


def send_open_slots(core: Core, peer: int, height: int) -> None:
    """Send the proposals and own votes of the slots that are still in agreement."""
    for seq, slot in sorted(core.slots.items()):
        if seq <= height:
            continue
        if slot.proposal is not None:
            core.emit(Send(peer, slot.proposal))
        if core.me is None:
            continue
        for ballots in (slot.approvals, slot.commits):
            vote = ballots.known(core.me, core.view)
            if vote is not None:
                core.emit(Send(peer, vote))


def on_link_up(core: Core, peer: int) -> None:
    """Introduce ourselves to a validator whose link just opened."""
    core.emit(Send(peer, own_status(core)))


def on_fetch(core: Core, peer: int, request: FetchBatch) -> None:
    """Send a body that we hold; the driver looks up slots that are already executed."""
    slot = core.slots.get(request.seq)
    if slot is None:
        if request.seq <= core.height:
            core.emit(SendBody(peer, request.seq, request.digest))
        return
    header, body = slot.headers.get(request.digest), slot.bodies.get(request.digest)
    if header is not None and body is not None:
        core.emit(Send(peer, BatchBody(header=header, batch=body)))


def on_body(core: Core, message: BatchBody) -> None:
    """Take a body for a header that was accepted or decided here."""
    header = message.header
    slot = core.slots.get(header.seq)
    wanted = slot is not None and core.holds_body(header.seq)
    if slot is None or not wanted or header.digest not in (*slot.headers, slot.committed):
        raise UnwantedError("unwanted_body")
    if message.batch.body_root() != header.body_root:
        raise UnwantedError("body_mismatch")
    slot.headers[header.digest] = header
    slot.bodies[header.digest] = message.batch


def on_decided(core: Core, peer: int, message: DecidedSlot) -> None:
    """Adopt a decided slot; at the end of an answer, ask on."""
    learn(core, message)
    if core.height + 1 >= core.asked + MAX_DECIDED_PER_STATUS:
        # At one answer a time-out, a replica behind a busy network would never catch up.
        core.emit(Send(peer, own_status(core)))


def learn(core: Core, message: DecidedSlot) -> None:
    """Adopt a decided slot that extends what we have, whoever has it from wherever."""
    certificate = message.certificate
    header = certificate.header
    if header.seq <= core.height:
        raise UnwantedError("stale")
    if header.seq > max(core.tip_seq, core.height) + 1:
        raise UnwantedError("gap")
    core.check_certificate(certificate, "commit")
    if message.batch.body_root() != header.body_root:
        raise UnwantedError("body_mismatch")
    if header.seq == core.height + 1 and header.parent != core.height_digest:
        raise AssertionError(f"slot {header.seq} was decided on another chain than ours")
    core.adopt_tip(certificate)
    slot = core.slot(header.seq)
    slot.headers[header.digest] = header
    if core.holds_body(header.seq):
        slot.bodies[header.digest] = message.batch
    slot.decided = slot.decided or certificate
    if header.epoch == core.voters.epoch:
        raise_floor(core, certificate.view)


def raise_floor(core: Core, view: int) -> None:
    """Leave the views below one in which a quorum has voted."""
    if view > core.view:
        core.enter(view, changing=True)
        core.own_view_change = None
