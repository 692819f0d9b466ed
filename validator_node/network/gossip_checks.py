"""What a topic of gossip consists of: its check, its glance, and what passed them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

import trio


class CheckAnswer(Enum):
    """What a topic's check or glance says of a message."""

    ACCEPT = "accept"
    """Deliver and forward it."""
    IGNORE = "ignore"
    """Drop it; an honest peer may have sent it."""
    USELESS = "useless"
    """Drop it; an honest peer sends such a thing only while its state differs from ours. Whoever
    brings more than a few a second is read more slowly, and never charged."""
    REJECT = "reject"
    """Drop it, and charge the peer we have it from."""


Answer = CheckAnswer | bool
"""True accepts, False ignores."""
TopicCheck = Callable[[str, bytes], Answer] | Callable[[str, bytes], Awaitable[Answer]]
"""`check(forwarder's peer id, data) -> answer`; a coroutine function has 5 s."""
Glance = Callable[[bytes], CheckAnswer | None]
"""`glance(data) -> answer`, or None if the check has to say. It runs before the author's signature
is verified, so it verifies nothing itself and keeps nothing that a forger could make up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GossipMessage:
    """A message that passed its topic's check.

    Attributes:
        peer_id: the peer we have it from, who answers for forwarding it.
        author: the peer that published and signed it.
        data: the payload.
    """

    peer_id: str
    author: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedTopic:
    """A topic this node takes part in.

    Attributes:
        channel: where delivered messages go.
        max_bytes: the largest payload.
        glance: the cheap judgement before the check, if there is one.
        checks_at_once: whether the check returns without waiting for anything.
    """

    channel: trio.MemorySendChannel[GossipMessage]
    max_bytes: int
    glance: Glance | None
    checks_at_once: bool
