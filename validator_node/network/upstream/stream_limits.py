"""One peer cannot hold memory with streams or topic names.

A connection accepts up to 10,000 inbound streams, each with a receive window of 256 KiB or more,
and a subscription may name a topic of 1 MiB (py-libp2p#1349). Corrected: at most 256 streams a
connection, further ones are reset; subscriptions to topics over 256 characters are ignored.
"""

from typing import Any, Final

from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.pubsub.pubsub import Pubsub

from validator_node.network.counters import attached
from validator_node.network.upstream.patching import replace

MAX_STREAMS: Final = 256
MAX_TOPIC_CHARS: Final = 256


def _limited(original: Any) -> Any:
    async def _handle_muxed_stream(self: SwarmConn, muxed_stream: Any) -> None:
        if len(self.streams) >= MAX_STREAMS:
            attached(self.swarm).count("refused", "streams_per_connection")
            await muxed_stream.reset()
            return
        await original(self, muxed_stream)

    return _handle_muxed_stream


def _subscription(original: Any) -> Any:
    def handle_subscription(self: Pubsub, origin_id: Any, sub_message: Any) -> None:
        if len(sub_message.topicid) > MAX_TOPIC_CHARS:
            attached(self).count("refused", "topic_name")
            return
        original(self, origin_id, sub_message)

    return handle_subscription


def apply() -> None:
    """Bound inbound streams a connection and the length of topic names."""
    replace(__name__, SwarmConn, "_handle_muxed_stream", _limited)
    replace(__name__, Pubsub, "handle_subscription", _subscription)
