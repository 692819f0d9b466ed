"""How far a published change has come, read from a node's reply. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.codec import digest_of
from protocol.identity import ss58_of
from protocol.records.challenge import Challenge
from registry import keys
from validator_node.owner.queries import RegistryReply
from validator_node.owner.release import Release, is_reached

ADVICE = {
    "version": "raise `version` in platform.toml and vectors.json above the active one",
    "too_many_challenges": "retire another challenge first",
    "unknown_challenge": "check the challenge's id: the network has none of this name",
    "not_owner": "sign with the key of the subnet's owner",
    "sequence_taken": "another change of this owner came first; run the command again",
    "far_ahead": "the node is behind; ask another one, or run the command again later",
    "mismatch": "run the vectors with the release that the network runs; if they match here, ask "
    "the validators that differ",
    "timeout": "too few validators reported in time; see that they can fetch the parts from here, "
    "then run the command again",
}
"""What the owner can do about each reason."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a change stands: what to show, and whether that is the end."""

    stage: Literal["sent", "held", "candidate", "active", "refused", "superseded"]
    text: str
    details: tuple[str, ...] = ()
    """Validators that found something else."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.stage in {"active", "refused", "superseded"}


def progress_of(
    release: Release, wanted: Challenge, sequence: int, reply: RegistryReply
) -> Progress:
    """Return how far the change with this sequence, to `wanted`, has come."""
    if reply.sequence < sequence:
        return _not_committed(reply)
    candidate = reply.candidate
    if candidate is not None and digest_of(candidate.challenge) == digest_of(wanted):
        return Progress(
            "candidate",
            f"committed in slot {candidate.seq} as a candidate: {len(candidate.reports)} of "
            f"{reply.validators} validators have reported",
            _differing(candidate.reports),
        )
    decision = reply.decision
    reports: tuple[keys.Report, ...] = ()
    if decision is not None and decision.version == wanted.version:
        reports = decision.reports
    if is_reached(release, reply.active):
        return Progress("active", _reached(release, wanted, reply), _differing(reports))
    if candidate is None and decision is not None and decision.version == wanted.version:
        return Progress("refused", _refused(decision.reason), _differing(reports))
    return Progress(
        "superseded",
        f"another change took effect instead (the network is at change {reply.sequence}); look at "
        "`owner status`, then run the command again",
    )


def _not_committed(reply: RegistryReply) -> Progress:
    if reply.state == "refused":
        return Progress("refused", _refused(reply.reason))
    if reply.state == "held":
        return Progress("held", "taken in by the node, waits to be ordered")
    return Progress("sent", "published, not yet seen by the node")


def _refused(reason: str) -> str:
    advice = ADVICE.get(reason)
    return f"{reason}: {advice}" if advice else reason


def _reached(release: Release, wanted: Challenge, reply: RegistryReply) -> str:
    if release.challenge is None:
        return f"retired, by slot {reply.height}"
    what = f"version {wanted.version} is active with emission {wanted.emission}"
    return f"{what}, by slot {reply.height}"


def _differing(reports: tuple[keys.Report, ...]) -> tuple[str, ...]:
    """Name each validator that failed a vector, or found other results than most did."""
    good = [known.results for known in reports if not known.failure]
    usual = max(set(good), key=good.count, default=None)
    lines = []
    for known in reports:
        if known.failure:
            lines.append(f"{ss58_of(known.hotkey)}: vector {known.failure}")
        elif known.results != usual:
            lines.append(f"{ss58_of(known.hotkey)}: other results {known.results.hex()[:16]}")
    return tuple(lines)
