"""Request and response: one stream, one request frame, one reply frame.

Rules: who may have how many is said in `shares`; a stream counts as a request under way only once
its frame was read, for which it has `ARRIVAL_S` and a second for each `FRAME_BYTES_PER_S` it may
have. What is over a peer's own share is reset and charged. Where we have no room the stream is
ended in good order, which `request` reports as `PeerBusyError`, and nobody is charged. The handler
and its reply have the service's deadline; its exception resets the stream and tells the peer
nothing. What the handler wants to refuse politely it says in its reply.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from protocol.errors import ProtocolError
from validator_node.network.errors import (
    AlreadyJoinedError,
    DeadlineExceededError,
    FrameTooLargeError,
    NetworkError,
    PeerBusyError,
    SlowFrameError,
    StreamClosedError,
    StreamEndedError,
)
from validator_node.network.limits import Gate
from validator_node.network.shares import RequestShares
from validator_node.network.streams import FRAME_BYTES_PER_S, FramedStream, StreamOpener

log = logging.getLogger(__name__)

ARRIVAL_S: Final = 5.0
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


def remote_ip(stream: Any) -> str:
    """Return the IP address a stream's connection comes from; empty if it is gone."""
    try:
        return str(stream.muxed_conn.get_remote_address()[0])
    except (AttributeError, TypeError, OSError):
        return ""


class Requests:
    """Both sides of request/response on one host."""

    def __init__(self, host: Any, opener: StreamOpener, gate: Gate) -> None:
        self._host = host
        self._opener = opener
        self._gate = gate
        self._counters = gate.counters
        self._shares = RequestShares(gate.standings.of)
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
        try:
            request = await self._read(framed, deadline_s)
            ip = remote_ip(stream)  # once: nobody tells it any more when the connection is lost
            if request is not None and await self._begin_work(framed, ip):
                try:
                    await self._answer(framed, stream, request, handler, deadline_s)
                finally:
                    self._shares.end_work(framed.peer_id, ip)
        finally:
            await framed.reset()

    async def _read(self, framed: FramedStream, deadline_s: float) -> bytes | None:
        """Return the request; None if it did not come, or had to make room for another one."""
        peer_id, longest_s = framed.peer_id, framed.max_frame_bytes / FRAME_BYTES_PER_S
        with trio.CancelScope() as scope:
            if not self._shares.begin_reading(framed, peer_id, scope.cancel):
                self._refuse_own(peer_id, "requests_per_peer")
                return None
            try:
                return await framed.receive(deadline_s=min(deadline_s, ARRIVAL_S + longest_s))
            except NetworkError as error:
                self._counters.count("reset", reason_of(error))
                charge_for(self._gate, peer_id, error)
                if type(error) is DeadlineExceededError:  # not a byte of it
                    self._gate.scores.charge(peer_id, "slow_frame")
            finally:
                self._shares.end_reading(framed)
        if scope.cancelled_caught:
            self._counters.count("reset", "request_put_out")
        return None

    def _refuse_own(self, peer_id: str, reason: str) -> None:
        self._counters.count("refused", reason)
        self._gate.scores.charge(peer_id, "request_refused")

    async def _begin_work(self, framed: FramedStream, ip: str) -> bool:
        reason = self._shares.begin_work(framed.peer_id, ip)
        if reason is None:
            return True
        if reason == "requests_per_peer":
            self._refuse_own(framed.peer_id, reason)
        else:
            self._counters.count("refused", reason)
            await framed.close()
        return False

    async def _answer(
        self, framed: FramedStream, stream: Any, request: bytes, handler: Handler, deadline_s: float
    ) -> None:
        try:
            with trio.move_on_after(deadline_s) as scope:
                reply = await handler(framed.peer_id, request)
                out = FramedStream(stream, max_frame_bytes=MAX_REPLY_BYTES)
                await out.send(reply, deadline_s=deadline_s)
                await framed.close()
                self._gate.places.note_use(framed.peer_id)
            if scope.cancelled_caught:
                self._counters.count("reset", "timed_out")
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
            PeerBusyError: the peer has no room now.
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
                try:
                    reply = await framed.receive(deadline_s=deadline_s)
                except StreamEndedError as error:
                    raise PeerBusyError(f"{peer_id} has no room for {protocol} now") from error
                if len(reply) > max_reply_bytes:
                    raise FrameTooLargeError(
                        f"{peer_id} replied {len(reply)} bytes: at most {max_reply_bytes}"
                    )
                self._gate.places.note_use(peer_id)
                await framed.close()
                return reply
            finally:
                await framed.reset()
        raise DeadlineExceededError(f"{peer_id} did not answer {protocol} in {deadline_s} s")
