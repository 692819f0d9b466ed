"""The least a transport can be: the node's frames over plain TCP, without names or secrets.

The baseline that shows what libp2p costs. Like `validator_node.network.links` it has one outbound
stream a peer, a queue that never blocks the sender, and one write for all that waits.
"""

from __future__ import annotations

import struct

import trio

from validator_node.consensus_driver import ConsensusDriver
from validator_node.outbox import decode_frame

HOST = "127.0.0.1"
RETRY_S = 0.05
READ_BYTES = 64 * 1024
PREFIX = struct.Struct("!I")


class TcpLinks:
    """The links of one node. The first four bytes on a stream are its opener's index."""

    def __init__(self, index: int, ports: list[int]) -> None:
        self._index = index
        self._ports = ports
        self._queues: dict[int, list[bytes]] = {}
        self._wake: dict[int, trio.Event] = {}
        self._driver: ConsensusDriver | None = None
        self._inbound = 0

    def is_complete(self) -> bool:
        """Return whether everybody is linked in both directions."""
        others = len(self._ports) - 1
        return self._inbound == others and len(self._queues) == others

    def send_frame(self, peer: int, frame: bytes, urgent: bool = False) -> None:
        """Queue a frame; dropped while the peer is not connected."""
        if peer in self._queues:
            self._queues[peer] += (PREFIX.pack(len(frame)), frame)
            self._wake[peer].set()

    async def run(self, driver: ConsensusDriver) -> None:
        """Serve for ever."""
        self._driver = driver
        listeners = await trio.open_tcp_listeners(self._ports[self._index], host=HOST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._read, listeners)
            for peer in range(len(self._ports)):
                if peer != self._index:
                    nursery.start_soon(self._write, peer)

    async def _write(self, peer: int) -> None:
        stream = await self._connect(peer)
        await stream.send_all(PREFIX.pack(self._index))
        self._wake[peer] = trio.Event()
        queue = self._queues[peer] = []
        while True:
            if not queue:
                self._wake[peer] = trio.Event()
                await self._wake[peer].wait()
            data = b"".join(queue)
            queue.clear()
            await stream.send_all(data)

    async def _connect(self, peer: int) -> trio.SocketStream:
        while True:
            try:
                return await trio.open_tcp_stream(HOST, self._ports[peer])
            except OSError:
                await trio.sleep(RETRY_S)

    async def _read(self, stream: trio.SocketStream) -> None:
        buffer = bytearray()
        peer = None
        while data := await stream.receive_some(READ_BYTES):
            buffer += data
            if peer is None:
                (peer,) = PREFIX.unpack_from(buffer)
                del buffer[: PREFIX.size]
                self._inbound += 1
            while len(buffer) >= PREFIX.size:
                end = PREFIX.size + PREFIX.unpack_from(buffer)[0]
                if len(buffer) < end:
                    break
                await self._deliver(peer, bytes(buffer[PREFIX.size : end]))
                del buffer[:end]

    async def _deliver(self, peer: int, frame: bytes) -> None:
        assert self._driver is not None
        await self._driver.put(peer, decode_frame(frame))
