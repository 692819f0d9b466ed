"""A failed dial must not make a peer undialable for a minute.

The swarm caches a failed dial for 60 s, so a validator that was restarted stays unreachable for
that long after it is back. Corrected: 2 s, which still absorbs a burst of calls to a dead peer.
"""

from typing import Any

from libp2p.network.swarm import _NegativePeerCache

from validator_node.network.upstream.patching import replace

FAILED_DIAL_S = 2.0


def _initialiser(original: Any) -> Any:
    def initialise(self: Any, ttl: float = FAILED_DIAL_S, max_size: int = 10_000) -> None:
        original(self, ttl, max_size)

    return initialise


def apply() -> None:
    """Shorten the negative dial cache."""
    replace(__name__, _NegativePeerCache, "__init__", _initialiser)
