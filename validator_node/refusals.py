"""Refusals: what refusing a submission says about the peer that brought it. Pure.

Whoever forwards a forgery is hostile. What speaks against a submission only in our state, honest
peers forward while theirs differs from ours; what speaks against it because this node or its hotkey
has too much, honest peers forward at any time.
"""

from __future__ import annotations

from typing import Final

from validator_node.network.gossip_checks import CheckAnswer

FORGED: Final = frozenset({"bad_signature", "body_mismatch", "wrong_network"})
USELESS: Final = frozenset(
    {
        "expired",
        "expires_too_late",
        "other_version",
        "too_large",
        "unknown_challenge",
        "unregistered",
        "wrong_topic",
    }
)


def answer_of(reason: str) -> CheckAnswer:
    """Return what gossip is told of a message that is refused for `reason`."""
    if reason in FORGED:
        return CheckAnswer.REJECT
    return CheckAnswer.USELESS if reason in USELESS else CheckAnswer.IGNORE
