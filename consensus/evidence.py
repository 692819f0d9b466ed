"""Evidence: two votes of one signer that contradict each other.

Rule 18: same (signer, epoch, view, seq, phase), different signed bytes: a proof that anybody can
check. It is reported once, told to everybody, and counted; nothing else follows from it here.
A few proofs against a signer say all there is to say. Whoever contradicts itself a thousand times
must not make the others send each other thousands of proofs, so no more than `MAX_OF_SIGNER` are
taken in an epoch.
"""

from __future__ import annotations

from consensus.agreement import check_vote_signature
from consensus.core import Core, UnwantedError
from consensus.effects import Broadcast, Report
from consensus.messages import Evidence, Vote

MAX_OF_SIGNER = 8
"""Proofs against one signer that are kept and passed on in an epoch."""


def _place(vote: Vote) -> tuple[int, int, int, int, bool]:
    return vote.signer, vote.epoch, vote.view, vote.seq, vote.kind == "commit"


def contradicts(first: Vote, second: Vote) -> bool:
    """Return whether two votes fill the same place with different signed content."""
    same_place = _place(first) == _place(second)
    return same_place and (first.kind, first.digest) != (second.kind, second.digest)


def _why_unwanted(core: Core, vote: Vote) -> str | None:
    known = core.known_evidence.get(vote.signer, set())
    if _place(vote) in known:
        return "duplicate"
    return "proven_enough" if len(known) >= MAX_OF_SIGNER else None


def report(core: Core, first: Vote, second: Vote) -> None:
    """Report verified contradicting votes, once for each place and not without end."""
    if _why_unwanted(core, first) is not None:
        return
    core.known_evidence.setdefault(first.signer, set()).add(_place(first))
    core.emit(Report(first, second))
    core.emit(Broadcast(Evidence(first=first, second=second)))


def on_evidence(core: Core, message: Evidence) -> None:
    """Verify evidence that somebody else found."""
    if message.first.epoch != core.voters.epoch:
        raise UnwantedError("wrong_epoch")
    if not contradicts(message.first, message.second):
        raise UnwantedError("no_contradiction")
    unwanted = _why_unwanted(core, message.first)
    if unwanted is not None:
        raise UnwantedError(unwanted)
    check_vote_signature(core, message.first)
    check_vote_signature(core, message.second)
    report(core, message.first, message.second)
