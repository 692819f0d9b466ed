"""Nobody can fill the table of subscriptions (py-libp2p#1349).

A subscription may name a topic of 1 MiB, each peer may hold 100 and all peers together any number;
what a peer sends beyond its 100 costs it nothing. Corrected: caps on the length of names, per peer
and in total, from `limits.Limits`; what is over is counted and charged.
"""

from typing import Any

from libp2p.pubsub.pubsub import Pubsub

from validator_node.network.limits import gate_of
from validator_node.network.upstream.patching import replace


def _why_refused(pubsub: Pubsub, peer_id: Any, topic: str) -> str | None:
    limits = gate_of(pubsub).limits
    if len(topic) > limits.topic_chars:
        return "topic_name"
    if peer_id in pubsub.peer_topics.get(topic, ()):
        return None
    counts = pubsub._peer_subscription_count
    if counts.get(peer_id, 0) >= limits.subscriptions_per_peer:
        return "subscriptions_per_peer"
    return "subscriptions" if sum(counts.values()) >= limits.subscriptions_total else None


def _limited(original: Any) -> Any:
    def handle_subscription(self: Pubsub, origin_id: Any, sub_message: Any) -> None:
        reason = _why_refused(self, origin_id, sub_message.topicid)
        if reason is None or not sub_message.subscribe:
            original(self, origin_id, sub_message)
            return
        gate = gate_of(self)
        gate.counters.count("refused", reason)
        if reason != "subscriptions":  # the others' doing
            gate.scores.charge(str(origin_id), "subscription_flood")

    return handle_subscription


def apply() -> None:
    """Bound subscriptions by name, peer and total."""
    replace(__name__, Pubsub, "handle_subscription", _limited)
