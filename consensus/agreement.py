"""The normal case: propose, approve, commit, decide.

Rules (OSDI'99 4.2, weighted, with ordered commits):
2. Two vote phases. A proposal is prepared by a quorum of PREPAREs of one view, decided by a quorum
   of COMMITs of one view; COMMITs of older views still count.
4. PRE-PREPARE is the batch with the primary's own PREPARE. A fresh proposal's parent is the digest
   decided at n-1, else the one accepted in this view. COMMIT(v, n, d) needs a prepared certificate
   for d, d accepted here in v, and n-1 decided as d's parent or commit-voted in v as d's parent; by
   induction that holds for each ancestor above the view's base. Only slots in (tip, tip + W] are
   signed; votes are stored for the next `VOTE_RANGE` slots and one view ahead,
   proposals for the next 2W.
5. REJECT only what is objectively invalid. At blocking weight of rejects the slot is hopeless and
   the view changes at once.
7. The prepared certificate is durable before its COMMIT leaves.
"""

from __future__ import annotations

from consensus.ancestors import is_missing
from consensus.certificate import build_certificate
from consensus.core import VOTE_RANGE, Core, UnwantedError
from consensus.effects import Broadcast, CheckBatch, Decide, PersistNote
from consensus.inputs import BatchChecked
from consensus.messages import PrePrepare, Vote
from protocol.envelope import VoteKind
from protocol.records.batch import Batch, Header


def open_slot(core: Core) -> int | None:
    """Return the slot this replica may propose for now, or None."""
    if core.me is None or core.changing or core.voters.primary(core.view) != core.me:
        return None
    seq = core.highest_accepted() + 1
    return seq if seq <= core.last_open else None


def propose(core: Core, batch: Batch) -> None:
    """Propose `batch` for the open slot; does nothing if there is none any more."""
    seq = open_slot(core)
    if seq is None:
        return
    parent = core.digest_at(seq - 1)
    if parent is None:
        raise AssertionError(f"slot {seq - 1} is accepted but has no digest")
    header = Header(epoch=core.voters.epoch, seq=seq, parent=parent, body_root=batch.body_root())
    accept(core, header)
    core.slot(seq).bodies[header.digest] = batch
    vote = core.make_vote(VoteKind.PREPARE, seq, header.digest)
    proposal = PrePrepare(vote=vote, header=header, batch=batch)
    core.slot(seq).proposal = proposal
    core.emit(PersistNote("proposal", core.voters.epoch, core.view, seq, proposal))
    core.emit(Broadcast(proposal))


def accept(core: Core, header: Header) -> None:
    """Record `header` as the one accepted for its slot in this view."""
    slot = core.slot(header.seq)
    slot.headers[header.digest] = header
    slot.accepted = header.digest


def on_pre_prepare(core: Core, message: PrePrepare) -> None:
    """Hold a proposal of the current view's primary until its parent is known."""
    vote, header = message.vote, message.header
    if vote.epoch != core.voters.epoch or header.epoch != core.voters.epoch:
        raise UnwantedError("wrong_epoch")
    if vote.view != core.view or core.changing:
        raise UnwantedError("other_view")
    if not core.tip_seq < header.seq <= core.tip_seq + 2 * core.parameters.window:
        raise UnwantedError("out_of_window")  # bodies are large; a laggard fetches them later
    if vote.signer != core.voters.primary(core.view):
        raise UnwantedError("not_primary")
    if vote.kind != "prepare" or vote.seq != header.seq or vote.digest != header.digest:
        raise UnwantedError("malformed")
    if message.batch.body_root() != header.body_root:
        raise UnwantedError("body_mismatch")
    known = core.slots.get(header.seq)
    earlier = known.approvals.known(vote.signer, vote.view) if known is not None else None
    if earlier is None or earlier.signature != vote.signature:
        check_vote_signature(core, vote)
        count_vote(core, vote)
    if earlier is not None and (earlier.kind, earlier.digest) != (vote.kind, vote.digest):
        raise UnwantedError("equivocation")
    slot = core.slot(header.seq)
    slot.headers[header.digest] = header
    slot.bodies[header.digest] = message.batch
    if slot.proposal is None:
        slot.proposal = message


def check_vote_signature(core: Core, vote: Vote) -> None:
    """Raise `UnwantedError` unless the vote's signature is its signer's."""
    core.check_signature(
        VoteKind(vote.kind), vote.signer, vote.view, vote.seq, vote.digest, vote.signature
    )


def wants_vote(core: Core, vote: Vote) -> str | None:
    """Return why a vote is of no use (before anything is verified), or None if it is wanted."""
    if vote.epoch != core.voters.epoch:
        return "wrong_epoch"
    if vote.signer >= len(core.voters):
        return "unknown_signer"
    if vote.seq <= core.tip_seq and (vote.kind != "commit" or not is_missing(core, vote.seq)):
        return "stale"
    if vote.seq > core.tip_seq + VOTE_RANGE:
        return "out_of_window"
    if vote.view > core.view + 1:
        return "future_view"
    if vote.kind != "commit" and vote.view < core.view:
        return "old_view"
    slot = core.slots.get(vote.seq)
    if slot is not None:
        ballots = slot.commits if vote.kind == "commit" else slot.approvals
        known = ballots.known(vote.signer, vote.view)
        if known is not None and (known.kind, known.digest) == (vote.kind, vote.digest):
            return "duplicate"
        if known is None and vote.kind == "prepare" and slot.committed is not None:
            return "past_quorum"
    return None


def on_vote(core: Core, peer: int, vote: Vote) -> None:
    """Count a vote that arrived on its signer's own link."""
    if vote.epoch != core.voters.epoch:  # first: indices belong to one epoch's set
        raise UnwantedError("wrong_epoch")
    if vote.signer != peer:
        raise UnwantedError("foreign_vote")
    unwanted = wants_vote(core, vote)
    if unwanted is not None:
        raise UnwantedError(unwanted)
    check_vote_signature(core, vote)
    count_vote(core, vote)


def count_vote(core: Core, vote: Vote) -> None:
    """Add a verified vote to its ballots; note what contradicts an earlier one (rule 18)."""
    slot = core.slot(vote.seq)
    ballots = slot.commits if vote.kind == "commit" else slot.approvals
    earlier = ballots.add(vote)
    if earlier is not None:
        core.contradictions.append((earlier, vote))


def check_fresh(core: Core) -> None:
    """Hand proposals whose parent is known to the driver, for judgement of their content."""
    if core.changing:
        return
    for seq in range(core.tip_seq + 1, core.last_open + 1):
        slot = core.slots.get(seq)
        if slot is None or slot.proposal is None or slot.checking or slot.accepted or slot.rejected:
            continue
        parent = core.digest_at(seq - 1)
        if parent is None:
            return
        header = slot.proposal.header
        slot.checking = True
        if header.parent != parent:
            refuse_proposal(core, seq, header.digest, "parent is not the slot before")
            continue
        core.emit(CheckBatch(core.view, seq, header.digest, slot.proposal.batch))


def on_batch_checked(core: Core, checked: BatchChecked) -> None:
    """Approve or reject a judged proposal, if its view and slot are still open."""
    slot = core.slots.get(checked.seq)
    if core.changing or checked.view != core.view or slot is None or slot.proposal is None:
        return
    header = slot.proposal.header
    if header.digest != checked.digest or slot.accepted is not None or slot.rejected:
        return
    if not slot.checking or checked.seq <= core.tip_seq:
        return
    if not checked.valid:
        refuse_proposal(core, checked.seq, checked.digest, checked.reason)
        return
    accept(core, header)
    core.emit(PersistNote("proposal", core.voters.epoch, core.view, checked.seq, slot.proposal))
    core.cast(VoteKind.PREPARE, checked.seq, header.digest)


def refuse_proposal(core: Core, seq: int, digest: bytes, reason: str) -> None:
    """Sign a REJECT for a proposal that is objectively invalid."""
    core.slot(seq).rejected = True
    core.cast(VoteKind.REJECT, seq, digest, reason[:200])


def commit_prepared(core: Core) -> None:
    """Send the COMMITs that are due, in slot order (rule 4)."""
    if core.changing:
        return
    for seq in range(core.tip_seq + 1, core.tip_seq + core.parameters.window + 1):
        slot = core.slots.get(seq)
        if slot is None or slot.accepted is None:
            return
        if slot.committed is not None:
            continue
        header = slot.headers[slot.accepted]
        approvals = slot.approvals.signatures("prepare", core.view, slot.accepted)
        if not core.voters.is_quorum(approvals) or not _ancestor_committed(core, header):
            return
        certificate = build_certificate(core.voters, header, "prepare", core.view, approvals)
        slot.prepared = certificate
        slot.committed = slot.accepted
        core.emit(PersistNote("prepared", core.voters.epoch, core.view, seq, certificate))
        core.cast(VoteKind.COMMIT, seq, slot.committed)


def _ancestor_committed(core: Core, header: Header) -> bool:
    if header.seq - 1 == core.tip_seq:
        return header.parent == core.tip_digest
    before = core.slots.get(header.seq - 1)
    return before is not None and before.committed == header.parent


def decide(core: Core) -> bool:
    """Advance the tip over slots with a quorum of COMMITs; return whether it moved."""
    moved = False
    while (slot := core.slots.get(core.tip_seq + 1)) is not None:
        for view, digest in slot.commits.choices():
            signatures = slot.commits.signatures("commit", view, digest)
            header = slot.headers.get(digest)
            if header is None or not core.voters.is_quorum(signatures):
                continue
            if header.parent != core.tip_digest:
                raise AssertionError(f"a quorum committed slot {header.seq} on another chain")
            core.adopt_tip(build_certificate(core.voters, header, "commit", view, signatures))
            moved = True
            break
        else:
            break
    return moved


def deliver(core: Core) -> bool:
    """Hand over decided batches whose bodies are here, in order; return whether any was."""
    moved = False
    while (slot := core.slots.get(core.height + 1)) is not None and slot.decided is not None:
        digest = slot.decided.header.digest
        body = slot.bodies.get(digest)
        if body is None:
            break
        core.height, core.height_digest = core.height + 1, digest
        core.delivered[core.height] = digest
        core.emit(Decide(body, slot.decided))
        moved = True
    if moved:
        core.forget_executed()
    return moved


def is_hopeless(core: Core) -> bool:
    """Return whether some slot of this view can no longer be prepared (rule 5)."""
    if core.changing:
        return False
    return any(
        core.voters.is_blocking(slot.approvals.signers("reject", core.view))
        for seq, slot in core.slots.items()
        if seq > core.tip_seq and slot.approvals.has_rejects
    )
