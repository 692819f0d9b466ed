"""The DHT answers more than a dozen at once, and nobody holds a handler for ever.

The stock handler takes 12 inbound streams and resets the rest without a word: of 60 concurrent
puts the median reaches 1 replica of 7. A stream that sends nothing keeps its handler until its
connection ends, so 12 silent streams switch a node's DHT off. Corrected: 256 handlers
(`stream_limits` bounds those of one peer), each for at most `STREAM_S`; what is refused is counted.
"""

from contextvars import ContextVar
from typing import Any, Final

import trio
from libp2p.kad_dht.kad_dht import KadDHT

from validator_node.network.counters import attached
from validator_node.network.deadline import shielded
from validator_node.network.upstream.patching import replace

MAX_HANDLERS: Final = 256
STREAM_S: Final = 30.0
_RESET_S: Final = 2.0

asking_peer: ContextVar[str | None] = ContextVar("asking_peer", default=None)
"""The peer whose stream the running task answers."""


def _with_limiter(original: Any) -> Any:
    def __init__(  # noqa: N807 - it replaces one
        self: KadDHT, *args: Any, **kwargs: Any
    ) -> None:
        original(self, *args, **kwargs)
        self._inbound_limiter.total_tokens = MAX_HANDLERS

    return __init__


def _handler(_: Any) -> Any:
    async def handle_stream(self: KadDHT, stream: Any) -> None:
        limiter = self._inbound_limiter
        reason = "dht_streams"
        if limiter.borrowed_tokens < limiter.total_tokens:
            asking_peer.set(str(stream.muxed_conn.peer_id))
            async with limiter:
                with trio.move_on_after(STREAM_S) as scope:
                    await self._do_handle_stream(stream)
            if not scope.cancelled_caught:
                return
            reason = "dht_slow_stream"
        attached(self.host).count("refused", reason)
        with shielded(_RESET_S):
            await stream.reset()

    return handle_stream


def apply() -> None:
    """Raise the number of inbound DHT handlers and bound the time of each."""
    replace(__name__, KadDHT, "__init__", _with_limiter)
    replace(__name__, KadDHT, "handle_stream", _handler)
