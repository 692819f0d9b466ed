"""A gossip burst of 33 messages must not lose one silently.

Both the subscription channel and the outbound queue of a peer hold 32 entries, and what overflows
is dropped with at most a log line. Corrected: 1,024 delivered messages, 512 outbound RPCs and
8 MiB a peer (the bytes bound memory: one RPC may be 1 MiB); what waits for slow peers is bounded in
total as well; every drop is counted.
"""

from typing import Any

import libp2p.pubsub.pubsub as pubsub_module
import trio
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import PriorityQueue, RpcQueue

from validator_node.network.counters import attach, attached
from validator_node.network.limits import gate_of, install
from validator_node.network.upstream.patching import replace

SUBSCRIPTION_CAPACITY = 1_024
OUTBOUND_CAPACITY = 512
OUTBOUND_BYTES = 8 * 1024 * 1024
SLOW_BYTES = 256 * 1024


def _queue_initialiser(original: Any) -> Any:
    def initialise(self: Any, max_size: int = OUTBOUND_CAPACITY, *args: Any, **kwargs: Any) -> None:
        original(self, max_size, *args, **kwargs)

    return initialise


def _push(original: Any) -> Any:
    def push(self: Any, rpc: Any, priority: bool = False) -> bool:
        held = getattr(self, "_held_bytes", 0)
        size = rpc.ByteSize()
        if held + size > OUTBOUND_BYTES or not original(self, rpc, priority):
            return False
        self._held_bytes = held + size
        return True

    return push


def _pop(original: Any) -> Any:
    def pop(self: Any) -> Any:
        rpc = original(self)
        if rpc is not None:
            self._held_bytes = getattr(self, "_held_bytes", 0) - rpc.ByteSize()
        return rpc

    return pop


def held_bytes(queue: RpcQueue) -> int:
    """Return the bytes that wait in a peer's queue."""
    held: int = getattr(queue._queue, "_held_bytes", 0)
    return held


def _has_room(queue: Any) -> bool:
    """Look at all queues when one is slow: adding them up costs a peer's queue 0.2 us each."""
    everyone = getattr(queue, "_all_queues", None)
    if everyone is None or held_bytes(queue) < SLOW_BYTES:
        return True
    limit: int = gate_of(queue).limits.gossip_outbound_bytes
    return sum(map(held_bytes, everyone.values())) < limit


def _counting_push(original: Any) -> Any:
    def push(self: Any, rpc: Any, priority: bool = False) -> bool:
        pushed: bool = _has_room(self) and original(self, rpc, priority)
        if not pushed and not self.closed:
            attached(self).count("dropped", "gossip_outbound")
        return pushed

    return push


def _handle_new_peer(original: Any) -> Any:
    async def _handle_new_peer(self: Pubsub, peer_id: Any) -> None:
        await original(self, peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            attach(queue, attached(self))
            install(queue, gate_of(self))
            queue._all_queues = self.peer_queues

    return _handle_new_peer


def _notify_subscriptions(_: Any) -> Any:
    def notify_subscriptions(self: Pubsub, publish_message: Any) -> None:
        for topic in publish_message.topicIDs:
            channel = self.subscribed_topics_send.get(topic)
            if channel is None:
                continue
            try:
                channel.send_nowait(publish_message)
            except trio.WouldBlock:
                attached(self).count("dropped", "gossip_subscription")

    return notify_subscriptions


def apply() -> None:
    """Raise the two capacities and count what they still drop."""
    replace(__name__, pubsub_module, "SUBSCRIPTION_CHANNEL_SIZE", lambda _: SUBSCRIPTION_CAPACITY)
    replace(__name__, RpcQueue, "__init__", _queue_initialiser)
    replace(__name__, RpcQueue, "push", _counting_push)
    replace(__name__, PriorityQueue, "push", _push)
    replace(__name__, PriorityQueue, "pop", _pop)
    replace(__name__, Pubsub, "_handle_new_peer", _handle_new_peer)
    replace(__name__, Pubsub, "notify_subscriptions", _notify_subscriptions)
