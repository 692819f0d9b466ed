"""Gossip to a peer comes back when its connection does.

When a new connection to a peer opens before the end of the old one was noticed, the stock code
keeps the dead stream, drops the next message on it, and forgets the subscriptions which the peer
has just announced and will not announce again: nothing is sent to it any more. The first stream of
a connection may also fail, and is tried again only after 0.5 s, then up to 10 s.

Corrected: a stream on a closed connection counts as dead; subscriptions are forgotten only with the
last connection; retries start at 50 ms and stay under 1 s.
"""

from typing import Any, Final

import libp2p.pubsub.pubsub as pubsub_module
from libp2p.pubsub.pubsub import Pubsub

from validator_node.network.upstream.patching import replace

FIRST_RETRY_S: Final = 0.05
MAX_RETRY_S: Final = 1.0


def _forget(original: Any) -> Any:
    def _forget_all_subscriptions(self: Pubsub, peer_id: Any) -> None:
        if self.is_peer_blacklisted(peer_id) or not self._peer_is_connected(peer_id):
            original(self, peer_id)

    return _forget_all_subscriptions


def _dead_peers(_: Any) -> Any:
    async def handle_dead_peer_queue(self: Pubsub) -> None:
        async with self.dead_peer_receive_channel:
            self.event_handle_dead_peer_queue_started.set()
            async for peer_id in self.dead_peer_receive_channel:
                stream = self.peers.get(peer_id)
                stale = stream is not None and bool(getattr(stream.muxed_conn, "is_closed", False))
                if stale or not self._peer_is_connected(peer_id):
                    self._handle_dead_peer(peer_id)

    return handle_dead_peer_queue


def apply() -> None:
    """Replace dead gossip streams at once and keep live subscriptions."""
    replace(__name__, pubsub_module, "_PEER_STREAM_BACKOFF_INITIAL", lambda _: FIRST_RETRY_S)
    replace(__name__, pubsub_module, "_PEER_STREAM_BACKOFF_MAX", lambda _: MAX_RETRY_S)
    replace(__name__, Pubsub, "_forget_all_subscriptions", _forget)
    replace(__name__, Pubsub, "handle_dead_peer_queue", _dead_peers)
