"""Conduct: how much nonsense a validator may send before its links are closed for a while. Pure.

Rules:
1. A message that changed nothing costs its sender something: a little where honest peers send such
   messages too (repeats, stragglers), a whole unit where only a broken or hostile one does.
2. The costs leak away at `LEAK_PER_S`. Beyond `LIMIT` the peer is dropped and banned for `BAN_S`:
   the other validators, who are a quorum without it, go on.
"""

from __future__ import annotations

from collections.abc import Callable

LIMIT = 200.0
LEAK_PER_S = 2.0
BAN_S = 60.0
HOSTILE_COST = 1.0
STALE_COST = 0.001
HOSTILE = frozenset(
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


class Conduct:
    """The conduct of each peer, by peer id."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._levels: dict[str, tuple[float, float]] = {}
        self._banned_until: dict[str, float] = {}

    def note(self, peer_id: str, reason: str) -> bool:
        """Charge a peer for a message of no use; True if that was one too many (rule 2)."""
        now = self._now()
        level, at = self._levels.get(peer_id, (0.0, now))
        level = max(0.0, level - (now - at) * LEAK_PER_S)
        level += HOSTILE_COST if reason in HOSTILE else STALE_COST
        self._levels[peer_id] = (level, now)
        if level <= LIMIT:
            return False
        del self._levels[peer_id]
        self._banned_until[peer_id] = now + BAN_S
        return True

    def is_banned(self, peer_id: str) -> bool:
        """Return whether a peer's links are refused now."""
        until = self._banned_until.get(peer_id)
        if until is None:
            return False
        if self._now() < until:
            return True
        del self._banned_until[peer_id]
        return False
