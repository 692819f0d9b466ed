"""A cancelled write must not break the connection it shares with every other stream.

`Yamux._write_frame` can be cancelled between two bytes of a frame, for instance by a request's
deadline. The rest of the frame is then missing and the connection is lost for all its streams.

Corrected: a frame once begun is written whole, shielded from cancellation; if the peer does not
take it within 10 s the connection is closed, which also bounds how long a cancellation waits.
"""

from typing import Any, Final

from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.yamux.yamux import Yamux

from validator_node.network.deadline import shielded
from validator_node.network.upstream.patching import replace

FRAME_S: Final = 10.0


def _write_frame(_: Any) -> Any:
    async def _write_frame(self: Any, data: bytes) -> None:
        async with self._write_lock:
            with shielded(FRAME_S) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                with shielded(FRAME_S):
                    await self.secured_conn.close()
                raise ConnectionClosedError(f"the peer took no data for {FRAME_S} s")

    return _write_frame


def apply() -> None:
    """Write every Yamux frame whole."""
    replace(__name__, Yamux, "_write_frame", _write_frame)
