"""Conduct: what a validator's useless consensus messages cost its score. Pure.

A message that changed nothing costs its sender something: a whole unit where only a broken or
hostile validator sends such a thing, more where it makes us work, next to nothing where honest ones
do too (repeats, stragglers). `network.scores` adds the costs up, lets them leak away and bans who
goes too far: the other validators, who are a quorum without it, go on.
"""

from __future__ import annotations

from typing import Final

HOSTILE_COST: Final = 1.0
STALE_COST: Final = 0.001
BAD_STATEMENT_COST: Final = 10.0
"""Honest validators pass on only statements that they have verified; each costs a verification."""
HOSTILE: Final = frozenset(
    {
        "bad_proof",
        "bad_signature",
        "body_mismatch",
        "equivocation",
        "foreign_vote",
        "malformed",
        "no_contradiction",
        "no_quorum",
        "not_primary",
        "too_large",
        "unknown_signer",
    }
)
"""Reasons that no honest validator gives rise to."""


def cost_of(reason: str) -> float:
    """Return what a consensus message refused for `reason` costs its sender."""
    if reason == "bad_statement":
        return BAD_STATEMENT_COST
    return HOSTILE_COST if reason in HOSTILE else STALE_COST
