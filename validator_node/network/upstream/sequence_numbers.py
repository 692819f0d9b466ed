"""A restarted node's gossip must not look like a replay.

A message id is the sender and its sequence number, and the number starts at `int(time.time())` and
grows by one a message. A node that published faster than once a second and restarts reuses numbers
its peers have seen: 0 of 20 messages arrived. Corrected: start at `time.time_ns()`.
"""

import time
from typing import Any

from libp2p.pubsub.pubsub import Pubsub

from validator_node.network.upstream.patching import replace


def _initialiser(original: Any) -> Any:
    def initialise(self: Pubsub, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.counter = time.time_ns()

    return initialise


def apply() -> None:
    """Start gossip sequence numbers at the nanosecond clock."""
    replace(__name__, Pubsub, "__init__", _initialiser)
