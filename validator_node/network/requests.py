"""Request and response: one stream, one request frame, one reply frame.

Rules: a peer may have 16 requests under way and all peers together 128, or twice as many if each
has but one, so that a few busy peers do not shut out the others; what is over is reset at once; the
deadline covers the whole exchange; a handler's exception resets the stream and tells the peer
nothing. What the handler wants to refuse politely it says in its reply.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from protocol.errors import ProtocolError
from validator_node.network.errors import (
    AlreadyJoinedError,
    DeadlineExceededError,
    FrameTooLargeError,
    NetworkError,
    SlowFrameError,
    StreamClosedError,
)
from validator_node.network.limits import Gate
from validator_node.network.streams import FramedStream, StreamOpener

log = logging.getLogger(__name__)

PER_PEER: Final = 16
TOTAL: Final = 128
MAX_REPLY_BYTES: Final = 64 * 1024 * 1024

Handler = Callable[[str, bytes], Awaitable[bytes]]
"""`handler(peer_id, request) -> reply`; runs under the service's deadline."""


def reason_of(error: NetworkError) -> str:
    """Return the short counter reason of an error a peer caused."""
    if isinstance(error, FrameTooLargeError):
        return "too_large"
    if isinstance(error, DeadlineExceededError):
        return "timed_out"
    return "closed" if isinstance(error, StreamClosedError) else "unreachable"


def charge_for(gate: Gate, peer_id: str, error: NetworkError) -> None:
    """Charge a peer for the error it caused on a stream it opened, if honest peers do not."""
    if isinstance(error, FrameTooLargeError):
        gate.scores.charge(peer_id, "frame_too_large")
    elif isinstance(error, SlowFrameError):
        gate.scores.charge(peer_id, "slow_frame")


class Requests:
    """Both sides of request/response on one host."""

    def __init__(self, host: Any, opener: StreamOpener, gate: Gate) -> None:
        self._host = host
        self._opener = opener
        self._gate = gate
        self._counters = gate.counters
        self._running: Counter[str] = Counter()
        self._served: set[str] = set()

    def serve(
        self, protocol: str, handler: Handler, *, max_request_bytes: int, deadline_s: float
    ) -> None:
        """Answer requests on `protocol` from now on.

        Raises:
            AlreadyJoinedError: the protocol is served already.
        """
        if protocol in self._served:
            raise AlreadyJoinedError(f"{protocol} is served already")
        self._served.add(protocol)

        async def on_stream(stream: Any) -> None:
            await self._admit(stream, handler, max_request_bytes, deadline_s)

        self._host.set_stream_handler(protocol, on_stream)

    async def _admit(
        self, stream: Any, handler: Handler, max_request_bytes: int, deadline_s: float
    ) -> None:
        # Only the request is bounded by max_request_bytes; what we answer is our own business.
        framed = FramedStream(stream, max_frame_bytes=max_request_bytes, gate=self._gate)
        peer_id = framed.peer_id
        if not self._has_room(peer_id):
            self._counters.count("refused", "too_many_requests")
            self._gate.scores.charge(peer_id, "request_refused")
            await framed.reset()
            return
        self._running[peer_id] += 1
        try:
            await self._answer(framed, stream, handler, deadline_s)
        finally:
            self._running[peer_id] -= 1
            if not self._running[peer_id]:
                del self._running[peer_id]
            await framed.reset()

    def _has_room(self, peer_id: str) -> bool:
        own, total = self._running.get(peer_id, 0), self._running.total()
        return own < PER_PEER and total < (TOTAL if own else 2 * TOTAL)

    async def _answer(
        self, framed: FramedStream, stream: Any, handler: Handler, deadline_s: float
    ) -> None:
        request: bytes | None = None
        try:
            with trio.move_on_after(deadline_s) as scope:
                request = await framed.receive()
                reply = await handler(framed.peer_id, request)
                out = FramedStream(stream, max_frame_bytes=MAX_REPLY_BYTES)
                await out.send(reply, deadline_s=deadline_s)
                await framed.close()
            if scope.cancelled_caught:
                self._counters.count("reset", "timed_out")
                if request is None:
                    self._gate.scores.charge(framed.peer_id, "slow_frame")
        except NetworkError as error:
            self._counters.count("reset", reason_of(error))
            charge_for(self._gate, framed.peer_id, error)
        except ProtocolError as error:
            self._counters.count("refused", f"request_{error.reason}")
            self._gate.scores.charge(framed.peer_id, "request_malformed")
        except Exception:
            self._counters.count("errors", "request_handler")
            log.exception("the handler of a request from %s failed", framed.peer_id)

    async def request(
        self, peer_id: str, protocol: str, data: bytes, *, deadline_s: float, max_reply_bytes: int
    ) -> bytes:
        """Send one request and return its reply.

        Args:
            peer_id: whom to ask; dialled if not connected and its address is known.
            protocol: the protocol the peer serves.
            data: the request.
            deadline_s: seconds for the whole exchange.
            max_reply_bytes: a larger reply is refused before it is read.

        Raises:
            PeerUnreachableError: no stream could be opened; also when a refusal came so early
                that it overtook the negotiation.
            StreamClosedError: the peer reset the stream: it refused, or its handler failed.
            FrameTooLargeError: the reply is too large.
            DeadlineExceededError: the exchange took too long.
        """
        with trio.move_on_after(deadline_s):
            framed = await self._opener.open(
                peer_id, protocol, max_frame_bytes=max(max_reply_bytes, len(data))
            )
            try:
                await framed.send(data, deadline_s=deadline_s)
                reply = await framed.receive(deadline_s=deadline_s)
                if len(reply) > max_reply_bytes:
                    raise FrameTooLargeError(
                        f"{peer_id} replied {len(reply)} bytes: at most {max_reply_bytes}"
                    )
                await framed.close()
                return reply
            finally:
                await framed.reset()
        raise DeadlineExceededError(f"{peer_id} did not answer {protocol} in {deadline_s} s")
