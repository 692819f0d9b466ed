"""Evidence: two votes of one signer that contradict each other.

Rule 18: same (signer, epoch, view, seq, phase), different signed bytes: a proof that anybody can
check. It is reported once, told to everybody, and counted; nothing else follows from it here.
"""

from __future__ import annotations

from consensus.agreement import check_vote_signature
from consensus.core import Core, UnwantedError
from consensus.effects import Broadcast, Report
from consensus.messages import Evidence, Vote

MAX_KNOWN = 1024


def _place(vote: Vote) -> tuple[int, int, int, int, bool]:
    return vote.signer, vote.epoch, vote.view, vote.seq, vote.kind == "commit"


def contradicts(first: Vote, second: Vote) -> bool:
    """Return whether two votes fill the same place with different signed content."""
    same_place = _place(first) == _place(second)
    return same_place and (first.kind, first.digest) != (second.kind, second.digest)


def report(core: Core, first: Vote, second: Vote) -> None:
    """Report verified contradicting votes, once for each place."""
    place = _place(first)
    if place in core.known_evidence:
        return
    core.known_evidence[place] = None
    if len(core.known_evidence) > MAX_KNOWN:
        core.known_evidence.pop(next(iter(core.known_evidence)))
    core.emit(Report(first, second))
    core.emit(Broadcast(Evidence(first=first, second=second)))


def on_evidence(core: Core, message: Evidence) -> None:
    """Verify evidence that somebody else found."""
    if message.first.epoch != core.voters.epoch:
        raise UnwantedError("wrong_epoch")
    if not contradicts(message.first, message.second):
        raise UnwantedError("no_contradiction")
    if _place(message.first) in core.known_evidence:
        raise UnwantedError("duplicate")
    check_vote_signature(core, message.first)
    check_vote_signature(core, message.second)
    report(core, message.first, message.second)
