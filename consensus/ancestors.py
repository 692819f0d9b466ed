"""Ancestors of the tip: decided with it, though nobody may hold their certificates.

Rules:
4.  Whoever signs COMMIT for a slot has signed it for each undecided ancestor, so a commit
    certificate decides the chain behind it. Its ancestors' own certificates need not exist: a
    Byzantine validator can complete slot n's certificate with its vote, withhold that vote for
    n - 1, and hand n over as its tip in a VIEW-CHANGE. All then start above n, and n - 1 could
    never be delivered. So every validator signs COMMIT, in the view it is in, for the undecided
    ancestors of its tip, by the hash chain alone: the honest ones make what is missing.
    Only the last W slots can lack a certificate everywhere, because no fresh slot is approved
    before the one W below it is executed.
"""

from __future__ import annotations

from collections.abc import Iterator

from consensus.certificate import build_certificate
from consensus.core import Core
from protocol.envelope import VoteKind


def lowest(core: Core) -> int:
    """Return the slot above which ancestors of the tip may lack a certificate everywhere."""
    return max(core.height, core.stable_seq, core.tip_seq - core.parameters.window)


def is_missing(core: Core, seq: int) -> bool:
    """Return whether votes for a slot below the tip may still complete its certificate."""
    slot = core.slots.get(seq)
    return lowest(core) < seq < core.tip_seq and (slot is None or slot.decided is None)


def ancestors(core: Core) -> Iterator[tuple[int, bytes]]:
    """Yield (seq, digest) of the tip's ancestors downwards, as far as their headers are known."""
    seq, digest = core.tip_seq, core.tip_digest
    while seq - 1 > lowest(core):
        slot = core.slots.get(seq)
        header = slot.headers.get(digest) if slot is not None else None
        if header is None:
            return
        seq, digest = seq - 1, header.parent
        yield seq, digest


def commit_ancestors(core: Core) -> None:
    """Sign COMMIT for the ancestors of the tip that have no certificate here."""
    if core.changing or core.me is None or core.tip_seq - core.height < 2:
        return
    for seq, digest in ancestors(core):
        slot = core.slot(seq)
        if slot.decided is None and slot.committed is None:
            slot.committed = digest
            core.cast(VoteKind.COMMIT, seq, digest)


def decide_ancestors(core: Core) -> bool:
    """Take ancestors of the tip with a quorum of COMMITs as decided; return whether any was."""
    moved = False
    if core.tip_seq - core.height < 2:
        return moved
    for seq, digest in ancestors(core):
        slot = core.slot(seq)
        header = slot.headers.get(digest)
        if slot.decided is not None or header is None:
            continue
        for view, choice in slot.commits.choices():
            signatures = slot.commits.signatures("commit", view, digest)
            if choice == digest and core.voters.is_quorum(signatures):
                slot.decided = build_certificate(core.voters, header, "commit", view, signatures)
                moved = True
                break
    return moved
