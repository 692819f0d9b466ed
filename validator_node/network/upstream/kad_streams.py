"""A DHT query that is given up leaves no stream behind.

The library opens a stream for each query and closes it at the end; cancelled by a deadline, the
close is cancelled as well, and the stream stays with one of the 256 places its connection has. A
peer that answers and never closes its side keeps the place too. `KadHost` is handed to the library
in place of the host: streams are opened in the background (see `streams`), a cancelled query resets
its stream, and a stream that the peer has not closed `LINGER_S` after us is reset.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import trio

from validator_node.network.errors import PeerUnreachableError
from validator_node.network.scores import Scores
from validator_node.network.streams import FramedStream, StreamOpener

LINGER_S: Final = 10.0
SWEEP_S: Final = 2.0


class KadStream:
    """A stream of the library whose end is certain."""

    def __init__(self, framed: FramedStream, host: "KadHost") -> None:
        self._framed = framed
        self._host = host
        self.raw: Any = framed._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    async def close(self) -> None:
        """Close in good order, or reset if the query was given up."""
        if trio.current_effective_deadline() == -float("inf"):
            await self._framed.reset()
        else:
            await self._framed.close()
            self._host.linger(self.raw)


class KadHost:
    """The host as the DHT sees it."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._opener: StreamOpener | None = None
        self._ended: deque[tuple[float, Any]] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def start(self, nursery: trio.Nursery, scores: Scores) -> None:
        """Open streams from now on, in tasks of `nursery`; before, every peer is out of reach."""
        self._opener = StreamOpener(self._host, nursery, scores)

    async def new_stream(self, peer_id: Any, protocol_ids: Sequence[Any]) -> KadStream:
        """Open a stream. Raises `PeerUnreachableError`."""
        if self._opener is None:
            raise PeerUnreachableError(f"{peer_id}: the network has not started")
        framed = await self._opener.open(str(peer_id), str(protocol_ids[0]), max_frame_bytes=0)
        return KadStream(framed, self)

    def linger(self, stream: Any) -> None:
        """Reset `stream` later, if its peer does not close it."""
        self._ended.append((trio.current_time() + LINGER_S, stream))

    @property
    def lingering(self) -> int:
        """Streams that we closed and have not looked at again."""
        return len(self._ended)

    async def run(self) -> None:
        """Reset what lingers, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S)
            while self._ended and self._ended[0][0] <= trio.current_time():
                _, stream = self._ended.popleft()
                if not stream.muxed_stream.closed:
                    await FramedStream(stream, max_frame_bytes=0).reset()
