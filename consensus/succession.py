"""View change: leaving a view without losing what may have been decided in it.

Rules (OSDI'99 4.4, with ordered commits instead of null requests):
9. VIEW-CHANGE(v) carries the commit certificate of the sender's tip and at most one prepared
   certificate (highest view, below v) for each slot in (tip, tip + W]. A NEW-VIEW is a quorum of
   VIEW-CHANGEs. Base = the highest tip among them; selection starts above it with the base's digest
   as parent, takes each slot's certificate of the highest view, and stops at the first missing slot
   or parent mismatch. It is a pure function of the set, and everybody recomputes it. Acceptors
   adopt the base as tip before they vote; then every node, the primary included, sends PREPARE for
   each selected digest unconditionally, with or without its body: a quorum approved it before.
7. VIEW-CHANGE and NEW-VIEW are signed once for a view; afterwards the stored bytes are sent again.
10. Join the greatest view that senders of blocking weight have asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from consensus.agreement import accept
from consensus.core import Core, UnwantedError
from consensus.effects import Broadcast, PersistNote, PersistVow, Send
from consensus.messages import FetchBatch, NewView, NewViewContent, ViewChange, ViewChangeContent
from protocol.codec import digest_of
from protocol.envelope import VoteKind
from protocol.errors import ProofError
from protocol.records.batch import Certificate, Header


@dataclass(frozen=True)
class Selection:
    """What a new view starts from."""

    base: Certificate | None
    """Commit certificate of the base; None at the epoch's start."""
    headers: tuple[Header, ...]
    """The selected slots above the base, in order."""


def select(view_changes: Iterable[ViewChange], epoch_base: tuple[int, bytes]) -> Selection:
    """Return the base and the slots that a set of valid view changes obliges everybody to keep.

    `epoch_base` is the (sequence, digest) the epoch starts above, for senders without a tip in it.
    """
    changes = list(view_changes)
    tips = [change.tip for change in changes if change.tip is not None]
    base = max(tips, key=lambda tip: (tip.header.seq, tip.view), default=None)
    seq, parent = (base.header.seq, base.header.digest) if base else epoch_base
    best: dict[int, Certificate] = {}
    for certificate in (prepared for change in changes for prepared in change.prepared):
        known = best.get(certificate.header.seq)
        if known is None or certificate.view > known.view:
            best[certificate.header.seq] = certificate
    headers = []
    while (found := best.get(seq + 1)) is not None and found.header.parent == parent:
        headers.append(found.header)
        seq, parent = seq + 1, found.header.digest
    return Selection(base=base, headers=tuple(headers))


def start_view_change(core: Core, view: int) -> None:
    """Leave every view below `view` and ask for it (rule 9); does nothing below the floor.

    An observer asks for nothing: it stays where the proposals are until a NEW-VIEW moves it.
    """
    if core.me is None or view < core.view or (view == core.view and core.changing):
        return
    core.enter(view, changing=True)
    core.own_view_change = None
    content = ViewChangeContent(
        epoch=core.voters.epoch,
        view=view,
        tip=core.tip_certificate,
        prepared=_prepared(core),
        signer=core.me,
    )
    signature = core.signature(VoteKind.VIEW_CHANGE, view, 0, digest_of(content))
    message = ViewChange(
        epoch=content.epoch,
        view=view,
        tip=content.tip,
        prepared=content.prepared,
        signer=core.me,
        signature=signature,
    )
    core.own_view_change = message
    core.view_changes[core.me] = message
    core.emit(PersistVow("view-change", core.voters.epoch, view, 0, message))
    core.emit(Broadcast(message))
    try_new_view(core)


def _prepared(core: Core) -> tuple[Certificate, ...]:
    window = range(core.tip_seq + 1, core.tip_seq + core.parameters.window + 1)
    slots = (core.slots.get(seq) for seq in window)
    return tuple(slot.prepared for slot in slots if slot is not None and slot.prepared is not None)


def on_view_change(core: Core, peer: int, message: ViewChange) -> None:
    """Count a view change; perhaps join it, perhaps open the view as its primary."""
    if message.epoch != core.voters.epoch:  # first: indices belong to one epoch's set
        raise UnwantedError("wrong_epoch")
    if message.signer != peer:
        raise UnwantedError("foreign_vote")
    known = core.view_changes.get(message.signer)
    if message.view < core.view or (known is not None and message.view <= known.view):
        raise UnwantedError("stale")
    if message.view == core.view and not core.changing:
        raise UnwantedError("stale")
    check_view_change(core, message)
    core.view_changes[message.signer] = message
    join(core)
    try_new_view(core)


def check_view_change(core: Core, message: ViewChange) -> None:
    """Raise unless the view change is well-formed, signed, and its certificates hold."""
    if message.epoch != core.voters.epoch:
        raise UnwantedError("wrong_epoch")
    core.check_signature(
        VoteKind.VIEW_CHANGE, message.signer, message.view, 0, message.digest, message.signature
    )
    tip_seq = core.epoch_base[0]
    if message.tip is not None:
        if message.tip.header.epoch != core.voters.epoch:
            raise UnwantedError("wrong_epoch")
        core.check_certificate(message.tip, "commit")
        tip_seq = message.tip.header.seq
    last = tip_seq
    for certificate in message.prepared:
        seq = certificate.header.seq
        if not last < seq <= tip_seq + core.parameters.window:
            raise ProofError(f"view change of {message.signer}: slot {seq} is out of order")
        if certificate.header.epoch != core.voters.epoch:
            raise UnwantedError("wrong_epoch")
        if certificate.view >= message.view:
            raise ProofError(f"view change of {message.signer}: slot {seq} is of a later view")
        core.check_certificate(certificate, "prepare")
        last = seq


def asking(core: Core, view: int) -> set[int]:
    """Return who has asked for `view` or a later one."""
    return {signer for signer, change in core.view_changes.items() if change.view >= view}


def join(core: Core) -> None:
    """Ask for the greatest view that blocking weight has asked for, if it is above ours."""
    for view in sorted({change.view for change in core.view_changes.values()}, reverse=True):
        if view <= core.view:
            return
        if core.voters.is_blocking(asking(core, view)):
            start_view_change(core, view)
            return


def try_new_view(core: Core) -> None:
    """Open the view as its primary, once a quorum has asked for exactly it."""
    if not core.changing or core.me is None or core.voters.primary(core.view) != core.me:
        return
    known = {s: change for s, change in core.view_changes.items() if change.view == core.view}
    if not core.voters.is_quorum(known):
        return
    chosen = core.voters.smallest_quorum(known)  # all of them would be half as long again
    content = NewViewContent(view_changes=tuple(known[signer] for signer in chosen))
    message = NewView(
        epoch=core.voters.epoch,
        view=core.view,
        view_changes=content.view_changes,
        signer=core.me,
        signature=core.signature(VoteKind.NEW_VIEW, core.view, 0, digest_of(content)),
    )
    core.emit(PersistVow("new-view", core.voters.epoch, core.view, 0, message))
    core.emit(Broadcast(message))
    install(core, message)


def on_new_view(core: Core, message: NewView) -> None:
    """Enter a view that its primary opened with a valid quorum of view changes."""
    if message.epoch != core.voters.epoch:
        raise UnwantedError("wrong_epoch")
    if message.view < core.view or (message.view == core.view and not core.changing):
        raise UnwantedError("stale")
    if message.signer != core.voters.primary(message.view) or message.view == 0:
        raise UnwantedError("not_primary")
    signers = [change.signer for change in message.view_changes]
    if signers != sorted(set(signers)):
        raise UnwantedError("malformed")
    if any(change.view != message.view for change in message.view_changes):
        raise UnwantedError("malformed")
    core.check_signature(
        VoteKind.NEW_VIEW, message.signer, message.view, 0, message.digest, message.signature
    )
    for change in message.view_changes:
        check_view_change(core, change)
    if not core.voters.is_quorum(signers):
        raise UnwantedError("no_quorum")
    install(core, message)


def install(core: Core, message: NewView) -> None:
    """Enter the view of an accepted NEW-VIEW and approve what it selects."""
    selection = select(message.view_changes, core.epoch_base)
    core.enter(message.view, changing=False)
    core.new_view = message
    core.own_view_change = None
    core.emit(PersistNote("new-view", message.epoch, message.view, 0, message))
    core.view_changes = {
        signer: change for signer, change in core.view_changes.items() if change.view > core.view
    }
    adopt_selection(core, selection)
    for header in selection.headers:
        if header.seq > core.tip_seq:
            core.cast(VoteKind.PREPARE, header.seq, header.digest)
            fetch_body(core, header)


def adopt_selection(core: Core, selection: Selection) -> None:
    """Take the base as tip, and the selected headers as accepted in this view."""
    core.base_seq = selection.base.header.seq if selection.base else core.epoch_base[0]
    if selection.base is not None:
        core.adopt_tip(selection.base)
    for header in selection.headers:
        if header.seq > core.tip_seq:
            accept(core, header)


def fetch_body(core: Core, header: Header) -> None:
    """Ask a validator, another one each time, for a body that is not here."""
    if header.digest in core.slot(header.seq).bodies:
        return
    peer = core.next_peer()
    if peer is not None:
        core.emit(Send(peer, FetchBatch(seq=header.seq, digest=header.digest)))
