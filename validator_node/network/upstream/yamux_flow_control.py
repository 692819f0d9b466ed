"""Yamux: few window updates, and writers that wake when one arrives.

The stock stream answers every read with a WINDOW_UPDATE frame (about 70 % of all sends), a writer
without window polls every 10 ms and errors its stream after 5 s, and two writers of one stream
interleave their chunks. A peer that ignores its window grows our buffers without limit.

Corrected: an update for each 64 KiB consumed, with the window doubling up to 2 MiB while the reader
keeps pace; the update wakes the writer; one message is written whole; a peer that overruns its
window loses the connection. The wire format is unchanged (yamux spec, "Flow Control").
"""

import struct
from typing import Any, Final

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import (
    HEADER_SIZE,
    MAX_MESSAGE_SIZE,
    TYPE_DATA,
    YAMUX_HEADER_FORMAT,
    YamuxStream,
)

from validator_node.network.upstream.patching import introduce, replace

UPDATE_BYTES: Final = 64 * 1024
MAX_WINDOW_BYTES: Final = 2 * 1024 * 1024
WRITE_STALL_S: Final = 10.0
_CHUNK_BYTES: Final = MAX_MESSAGE_SIZE - HEADER_SIZE


def _wake(stream: Any) -> None:
    event = stream.__dict__.get("_writable")
    if event is not None:
        event.set()


def _waking(attribute: str, initial: Any) -> property:
    """Make a stored attribute whose change wakes a blocked writer."""
    held = f"_held_{attribute}"

    def read(self: Any) -> Any:
        return self.__dict__.get(held, initial)

    def write(self: Any, value: Any) -> None:
        self.__dict__[held] = value
        _wake(self)

    return property(read, write)


def _recv_window() -> property:
    def read(self: Any) -> int:
        value: int = self.__dict__.get("_held_recv_window", 0)
        return value

    def write(self: Any, value: int) -> None:
        self.__dict__["_held_recv_window"] = value
        nursery = self.conn._nursery
        if value < 0 and nursery is not None and not self.conn.event_shutting_down.is_set():
            nursery.start_soon(self.conn._cleanup_on_error)

    return property(read, write)


async def _wait_writable(stream: Any) -> None:
    event = stream._writable = trio.Event()
    with trio.move_on_after(WRITE_STALL_S) as scope:
        await event.wait()
    if scope.cancelled_caught:
        raise MuxedStreamError(f"the peer gave no window for {WRITE_STALL_S} s")


def _write(_: Any) -> Any:
    async def write(self: Any, data: bytes) -> None:
        view, position, total = memoryview(data), 0, len(data)
        async with self.rw_lock.write_lock():
            while position < total:
                if self.send_closed or self.closed:
                    raise MuxedStreamError("Stream is closed for sending")
                if self.send_window <= 0:
                    await _wait_writable(self)
                    continue
                size = min(self.send_window, _CHUNK_BYTES, total - position)
                self.send_window -= size
                header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, self.stream_id, size)
                await self.conn._write_frame(header + view[position : position + size])
                position += size

    return write


def _update(_: Any) -> Any:
    async def _auto_tune_and_send_window_update(self: Any, *, bytes_read: int = 0) -> None:
        self._pending_recv_release += bytes_read
        increment = self._pending_recv_release
        if increment < UPDATE_BYTES or self.recv_closed:
            return
        self._pending_recv_release = 0
        now = trio.current_time()
        if now - self.epoch_start < 4 * self._effective_rtt():
            grown = min(2 * self.target_recv_window, MAX_WINDOW_BYTES)
            increment += grown - self.target_recv_window
            self.target_recv_window = grown
        self.epoch_start = now
        self.recv_window += increment
        await self.send_window_update(increment)

    return _auto_tune_and_send_window_update


def apply() -> None:
    """Batch window updates, wake writers by event and enforce the receive window."""
    introduce(__name__, YamuxStream, "send_window", _waking("send_window", 0))
    introduce(__name__, YamuxStream, "closed", _waking("closed", False))
    introduce(__name__, YamuxStream, "send_closed", _waking("send_closed", False))
    introduce(__name__, YamuxStream, "recv_window", _recv_window())
    replace(__name__, YamuxStream, "write", _write)
    replace(__name__, YamuxStream, "_auto_tune_and_send_window_update", _update)
