"""A TCP proxy for one direction of dialling between two nodes, whose link can be made bad.

Rules:
1. `open` forwards, each chunk `delay_ms` after it came and at most `rate` bytes a second each way.
   The part `loss` of the chunks is lost and comes `RESEND_S` later, doubling if it is lost again,
   and everything behind it waits: that is what a lost packet does to those who speak TCP.
2. `hole` accepts and holds: connections stay open, nothing passes, nobody is told; what was on its
   way passes when the link opens again, as TCP would retransmit it after a partition.
3. `cut` resets what is open, and every new connection at once.
4. What a connection may hold is bounded: `QUEUE` chunks each way, then it reads no more, which
   holds the writer back. A proxy has at most `MAX_CONNECTIONS`; more are reset and counted.
"""

from __future__ import annotations

import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

import trio

from validator_node.testnet.timeline import OPEN, Condition

CHUNK_BYTES = 65_536
LIMITED_CHUNK_BYTES = 2048
"""Chunks while a rate holds: small, so that a slow link drips and does not stutter."""
QUEUE = 64
RESEND_S = 0.2
MAX_CONNECTIONS = 64
CONNECT_S = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset."""


@dataclass
class Counts:
    """What passed a proxy."""

    connections: int = 0
    refused: int = 0
    bytes: int = 0


class _Lane:
    """One direction: when the line is free again, shared by all connections."""

    def __init__(self) -> None:
        self.free_at = 0.0


class Proxy:
    """Listens on a port of its own and forwards to a target. Use `run` in a nursery."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._condition = OPEN
        self._cuts = 0
        self._changed = trio.Event()
        self._open_connections = 0
        self._up, self._down = _Lane(), _Lane()
        self.counts = Counts()
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._listener = trio.socket.socket(family)
        self.port = 0

    async def listen(self) -> int:
        """Bind a free port of the target's address and return it."""
        await self._listener.bind((self._target[0], 0))
        self._listener.listen(128)
        self.port = int(self._listener.getsockname()[1])
        return self.port

    def set(self, condition: Condition) -> None:
        """Make the link so from now on."""
        self._condition = condition
        self._cuts += condition.mode == "cut"
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        with self._listener:
            async with trio.open_nursery() as nursery:
                while True:
                    accepted, _ = await self._listener.accept()
                    if self._condition.mode == "cut" or self._open_connections >= MAX_CONNECTIONS:
                        self.counts.refused += 1
                        _reset(accepted)
                        continue
                    self.counts.connections += 1
                    nursery.start_soon(self._serve, trio.SocketStream(accepted), self._cuts)

    async def _serve(self, client: trio.SocketStream, cuts: int) -> None:
        self._open_connections += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_when_cut, nursery.cancel_scope, cuts)
                # One end is gone or does not answer: so is the connection.
                with suppress(OSError, trio.BrokenResourceError, trio.TooSlowError):
                    await self._connect_and_forward(client)
                nursery.cancel_scope.cancel()
        finally:
            self._open_connections -= 1
            _reset(client.socket)

    async def _end_when_cut(self, scope: trio.CancelScope, cuts: int) -> None:
        while self._cuts == cuts:  # a cut may be over before this task sees it
            await self._changed.wait()
        scope.cancel()

    async def _connect_and_forward(self, client: trio.SocketStream) -> None:
        await self._wait_open()
        with trio.fail_after(CONNECT_S):
            target = await trio.open_tcp_stream(*self._target, happy_eyeballs_delay=CONNECT_S)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, client, target, self._up)
                nursery.start_soon(self._pump, target, client, self._down)
        except* (OSError, trio.BrokenResourceError):
            pass  # as above
        finally:
            _reset(target.socket)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, lane: _Lane) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](QUEUE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give, receive, sink, lane)
            async with send:
                while True:
                    await self._wait_open()
                    limit = LIMITED_CHUNK_BYTES if self._condition.rate else CHUNK_BYTES
                    data = await source.receive_some(limit)
                    if not data:
                        break
                    await send.send((trio.current_time() + self._condition.delay_ms / 1000, data))

    async def _give(
        self,
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.SocketStream,
        lane: _Lane,
    ) -> None:
        async for due, data in receive:
            await trio.sleep_until(due)
            await self._wait_resent()
            await self._wait_turn(lane, len(data))
            await self._wait_open()
            self.counts.bytes += len(data)  # first: who has read it may end us before we go on
            await sink.send_all(data)
        await sink.send_eof()

    async def _wait_turn(self, lane: _Lane, size: int) -> None:
        rate = self._condition.rate
        if rate:
            lane.free_at = max(lane.free_at, trio.current_time()) + size / rate
            await trio.sleep_until(lane.free_at)

    async def _wait_resent(self) -> None:
        wait_s = RESEND_S
        while random.random() < self._condition.loss:  # noqa: S311 - weather, no secret
            await trio.sleep(wait_s)
            wait_s *= 2

    async def _wait_open(self) -> None:
        while self._condition.mode != "open":
            await self._changed.wait()


def _reset(sock: trio.socket.SocketType) -> None:
    """Close a socket with a reset, whatever is still in it; do nothing if it is closed."""
    if sock.fileno() != -1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()
