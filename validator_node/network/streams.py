"""Frames over libp2p streams.

Rules: a frame is a 4-byte big-endian length and that many bytes; the length is checked before the
body is read; every operation has a deadline, and what a stranger began to send he must finish in
`Limits.frame_s`, plus a second for each `FRAME_BYTES_PER_S` of it; after an error the stream is of
no use and its user resets it. A stream is opened in the background: a cancelled opening inside the
library would leak one of the 256 streams a connection may have. At most 32 are being opened to one
peer.
"""

import logging
import struct
from typing import Any, Final

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID

from validator_node.network.deadline import shielded
from validator_node.network.errors import (
    DeadlineExceededError,
    FrameTooLargeError,
    PeerUnreachableError,
    SlowFrameError,
    StreamClosedError,
    StreamEndedError,
)
from validator_node.network.limits import Gate, frames_of
from validator_node.network.scores import Scores

log = logging.getLogger(__name__)

PREFIX_BYTES: Final = 4
OPEN_S: Final = 30.0
OPENING_PER_PEER: Final = 32
CLOSE_S: Final = 2.0
FRAME_BYTES_PER_S: Final = 65_536
_READ_BYTES: Final = 64 * 1024
_CLOSED: Final = (BaseLibp2pError, EOFError, OSError, trio.BrokenResourceError)


class FramedStream:
    """Length-prefixed frames on one libp2p stream; one task may send while another receives.

    `gate` is given for a stream that the peer opened: what it leaves unfinished there counts among
    its buffered bytes, and has a deadline.
    """

    def __init__(self, stream: Any, *, max_frame_bytes: int, gate: Gate | None = None) -> None:
        self._stream = stream
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._ended = False
        self._frame_s = float("inf") if gate is None else gate.limits.frame_s
        if gate is not None:
            frames_of(stream.muxed_conn)[id(self)] = self._buffer
        self.peer_id = str(stream.muxed_conn.peer_id)

    async def send(self, *frames: bytes, deadline_s: float) -> None:
        """Send frames in one write.

        Raises:
            FrameTooLargeError: a frame exceeds the limit; nothing was sent.
            DeadlineExceededError: the peer did not take them in time; reset the stream.
            StreamClosedError: the stream is closed or its connection lost.
        """
        parts: list[bytes] = []
        most = self.max_frame_bytes
        for frame in frames:
            if len(frame) > most:
                raise FrameTooLargeError(
                    f"a frame of {len(frame)} bytes for {self.peer_id}: at most {most}"
                )
            parts += (struct.pack("!I", len(frame)), frame)
        with trio.move_on_after(deadline_s) as scope:
            try:
                await self._stream.write(b"".join(parts))
            except _CLOSED as error:
                raise StreamClosedError(f"stream to {self.peer_id} is closed: {error!r}") from error
            return
        assert scope.cancelled_caught
        raise DeadlineExceededError(f"{self.peer_id} took no data for {deadline_s} s")

    async def receive(self, *, deadline_s: float | None = None) -> bytes:
        """Return the next frame; without a deadline it waits for ever.

        Raises:
            FrameTooLargeError: the peer announced more than the limit; reset the stream.
            SlowFrameError: it began a frame and did not finish it; reset the stream.
            DeadlineExceededError: no whole frame came in time.
            StreamClosedError: the stream ended, before or inside a frame; `StreamEndedError` if
                the peer closed it in good order before one.
        """
        with trio.move_on_after(trio_seconds(deadline_s)) as scope:
            await self._fill(1)
            return await self._frame()
        assert scope.cancelled_caught
        raise DeadlineExceededError(f"{self.peer_id} sent no frame for {deadline_s} s")

    async def _frame(self) -> bytes:
        with trio.move_on_after(self._frame_s) as scope:
            await self._fill(PREFIX_BYTES)
            (size,) = struct.unpack_from("!I", self._buffer)
            most = self.max_frame_bytes
            if size > most:
                raise FrameTooLargeError(
                    f"{self.peer_id} announced a frame of {size} bytes: at most {most}"
                )
            scope.deadline += size / FRAME_BYTES_PER_S
            await self._fill(PREFIX_BYTES + size)
            frame = bytes(memoryview(self._buffer)[PREFIX_BYTES : PREFIX_BYTES + size])
            del self._buffer[: PREFIX_BYTES + size]
            return frame
        assert scope.cancelled_caught
        raise SlowFrameError(
            f"{self.peer_id} sent {len(self._buffer)} bytes of a frame and no more in its time"
        )

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            try:
                data = await self._stream.read(_READ_BYTES)
            except StreamEOF as error:
                raise self._ending() from error
            except _CLOSED as error:
                raise StreamClosedError(f"stream of {self.peer_id} ended: {error!r}") from error
            if not data:
                raise self._ending()
            self._buffer += data

    def _ending(self) -> StreamClosedError:
        if self._buffer:
            return StreamClosedError(f"stream of {self.peer_id} ended inside a frame")
        return StreamEndedError(f"{self.peer_id} closed the stream where a frame was expected")

    async def close(self) -> None:
        """Close our direction in good order; what was sent is delivered."""
        await self._end("close")

    async def reset(self) -> None:
        """Abandon the stream in both directions; also after cancellation."""
        await self._end("reset")

    async def _end(self, method: str) -> None:
        if self._ended:
            return
        self._ended = True
        frames_of(self._stream.muxed_conn).pop(id(self), None)
        with shielded(CLOSE_S):
            try:
                await getattr(self._stream, method)()
            except Exception as error:  # a lost connection has ended the stream already
                log.debug("%s of a stream of %s: %r", method, self.peer_id, error)


def trio_seconds(deadline_s: float | None) -> float:
    """Return a deadline for trio, for which "none" is infinity."""
    return float("inf") if deadline_s is None else deadline_s


class _Opening:
    """One stream being opened in the background."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.stream: Any = None
        self.error: Exception | None = None
        self.abandoned = False


class StreamOpener:
    """Opens streams so that an impatient caller leaks nothing."""

    def __init__(self, host: Any, nursery: trio.Nursery, scores: Scores) -> None:
        self._host = host
        self._nursery = nursery
        self._scores = scores
        self._slots: dict[str, trio.Semaphore] = {}

    async def open(self, peer_id: str, protocol: str, *, max_frame_bytes: int) -> FramedStream:
        """Open a stream for `protocol`, dialling the peer if its address is known.

        Raises:
            PeerUnreachableError: unknown, not reachable, banned, or it does not speak the protocol.
        """
        if self._scores.is_banned(peer_id):
            raise PeerUnreachableError(f"no {protocol} stream to {peer_id}: it is banned here")
        opening = _Opening()
        slots = self._slots.setdefault(peer_id, trio.Semaphore(OPENING_PER_PEER))
        await slots.acquire()
        self._nursery.start_soon(self._open, opening, peer_id, protocol, slots)
        taken = False
        try:
            await opening.done.wait()
            taken = True
        finally:
            opening.abandoned = not taken
            if not taken and opening.stream is not None:
                self._nursery.start_soon(_reset, opening.stream)
        if opening.stream is None:
            raise PeerUnreachableError(
                f"no {protocol} stream to {peer_id}: {opening.error!r}"
            ) from opening.error
        return FramedStream(opening.stream, max_frame_bytes=max_frame_bytes)

    async def _open(
        self, opening: _Opening, peer_id: str, protocol: str, slots: trio.Semaphore
    ) -> None:
        stream = None
        try:
            with trio.move_on_after(OPEN_S):
                identity = ID.from_string(peer_id)
                stream = await self._host.new_stream(identity, [TProtocol(protocol)])
        except Exception as error:  # dialling and negotiation raise many kinds
            opening.error = error
        finally:
            slots.release()
            if slots.value == OPENING_PER_PEER and self._slots.get(peer_id) is slots:
                del self._slots[peer_id]
        if opening.abandoned and stream is not None:
            await _reset(stream)
            return
        opening.stream = stream
        opening.done.set()


async def _reset(stream: Any) -> None:
    await FramedStream(stream, max_frame_bytes=0).reset()
