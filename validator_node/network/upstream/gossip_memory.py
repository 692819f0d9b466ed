"""Gossip keeps what it needs, and not for ever.

GossipSub keeps the time of every message it ever forwarded (for a metric that is off), up to 1,000
whole messages to detect what the message id excludes already, every message of the last five
heartbeats whatever their size, 100 for each peer that has not subscribed, and a back-off for each
(topic, peer) that any PRUNE ever named.

Corrected: no times and no second copies; the cache is bounded in bytes, the oldest go first;
messages that wait for a peer's subscription take at most `PENDING_BYTES` a peer; back-offs that are
over are forgotten.
"""

import time
from collections import defaultdict, deque
from typing import Any, Final

from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import MessageCache

from validator_node.network.counters import attached
from validator_node.network.limits import Limits
from validator_node.network.upstream.patching import replace

PENDING_BYTES: Final = 1_048_576


def _router_initialiser(original: Any) -> Any:
    def initialise(self: GossipSub, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.recent_message_deliveries = defaultdict(lambda: deque(maxlen=0))

    return initialise


def _check_equivocation(_: Any) -> Any:
    def check(self: GossipSub, msg: Any) -> bool:
        # Two messages with one author and number have one id: the second counts as seen.
        del self, msg
        return True

    return check


def _put(original: Any) -> Any:
    def put(self: MessageCache, msg: Any) -> None:
        known = len(self.msgs)
        original(self, msg)
        if len(self.msgs) == known:
            return
        held = self.__dict__.get("_held_bytes", 0) + msg.ByteSize()
        limit = self.__dict__.get("limit_bytes", Limits().gossip_cache_bytes)
        for entries in reversed(self.history):
            while held > limit and entries:
                gone = self.msgs.pop(entries.pop(0).mid, None)
                held -= 0 if gone is None else gone.ByteSize()
                attached(self).count("dropped", "gossip_cache")
        self.__dict__["_held_bytes"] = held

    return put


def _shift(original: Any) -> Any:
    def shift(self: MessageCache) -> None:
        original(self)
        self.__dict__["_held_bytes"] = sum(msg.ByteSize() for msg in self.msgs.values())

    return shift


def _prune_pending(original: Any) -> Any:
    def prune(self: GossipSub, peer_id: Any) -> None:
        original(self, peer_id)
        queue = self._pending_messages.get(peer_id, [])
        held = sum(rpc.ByteSize() for _, rpc in queue)
        while held > PENDING_BYTES:
            held -= queue.pop(0)[1].ByteSize()
            attached(self).count("dropped", "gossip_pending")

    return prune


def _forget_back_offs(original: Any) -> Any:
    def cleanup(self: GossipSub) -> None:
        original(self)
        now = int(time.time())
        for topic, peers in list(self.back_off.items()):
            for peer in [peer for peer, until in peers.items() if until <= now]:
                del peers[peer]
            if not peers:
                del self.back_off[topic]

    return cleanup


def apply() -> None:
    """Bound what the gossip router remembers."""
    replace(__name__, GossipSub, "__init__", _router_initialiser)
    replace(__name__, GossipSub, "_check_equivocation", _check_equivocation)
    replace(__name__, GossipSub, "_prune_pending_messages", _prune_pending)
    replace(__name__, GossipSub, "_periodic_security_cleanup", _forget_back_offs)
    replace(__name__, MessageCache, "put", _put)
    replace(__name__, MessageCache, "shift", _shift)
