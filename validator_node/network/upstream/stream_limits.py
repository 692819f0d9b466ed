"""One peer cannot hold memory with streams, not even with ended ones.

A connection accepts up to 10,000 inbound streams, each with a receive window of 256 KiB or more, as
fast as they come. A stream that our handler closed stays open, with its buffer, until the peer
closes it too, and one that was reset with unread data stays for 60 s: neither counts any more.

Corrected: `limits.Gate` grants the streams of each peer by number and rate, further ones are reset;
a stream counts until both sides are done with it, for which the peer has `LINGER_S`; a reset stream
gives up its buffer at once.
"""

from typing import Any, Final

import trio
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from validator_node.network.limits import gate_of
from validator_node.network.upstream.patching import replace

LINGER_S: Final = 10.0


async def _linger(muxed_stream: Any) -> None:
    """Wait until the peer has closed its side too, then insist."""
    with trio.move_on_after(LINGER_S):
        while not muxed_stream.closed:
            # Set by whatever changes `closed`; nobody writes to a stream whose handler has ended.
            muxed_stream._writable = trio.Event()
            await muxed_stream._writable.wait()
    await muxed_stream.reset()


def _limited(original: Any) -> Any:
    async def _handle_muxed_stream(self: SwarmConn, muxed_stream: Any) -> None:
        gate = gate_of(self.swarm)
        peer_id = str(self.muxed_conn.peer_id)
        if not gate.begin_stream(peer_id):
            await muxed_stream.reset()
            return
        try:
            await original(self, muxed_stream)
            await _linger(muxed_stream)
        finally:
            gate.end_stream(peer_id)

    return _handle_muxed_stream


def _reset(original: Any) -> Any:
    async def reset(self: YamuxStream) -> None:
        buffer = self.conn.stream_buffers.get(self.stream_id)
        if buffer is not None:
            buffer.clear()
        await original(self)
        # Where the peer had closed it before, the stock reset leaves the books as they are.
        await self.conn._finalize_stream(self, fully_closed=True)

    return reset


def apply() -> None:
    """Grant streams by number and rate, and let go of ended ones."""
    replace(__name__, SwarmConn, "_handle_muxed_stream", _limited)
    replace(__name__, YamuxStream, "reset", _reset)
