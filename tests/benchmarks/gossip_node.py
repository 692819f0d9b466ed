"""One node of the gossip benchmark, in a process of its own.

Its argument is a `Spec` as JSON. It prints `listening`, after a line on its standard input it
connects to the others and prints `ready` once the mesh has had time to form. Then it obeys lines:
`mark` prints a `Marked` as JSON, `publish SIZE WINDOW SECONDS` publishes and prints `Published`.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from protocol.codec import sha256
from tests.benchmarks.tables import show
from tests.benchmarks.tcp_links import HOST

TOPIC = "/benchmark/gossip"
HEAD = struct.Struct("!Qd")
COUNT = struct.Struct("!Q")
MESH_S = 3.0
"""Heartbeats are a second apart: the mesh is formed after two."""
STALLED_S = 2.0
"""Without any progress for so long what is under way counts as lost."""
POLL_S = 0.001

Publish = Callable[[bytes], Awaitable[None]]


class Spec(msgspec.Struct, frozen=True):
    """What one node is told."""

    index: int
    variant: str
    """`stock` is py-libp2p as it comes, `ours` is `validator_node.network`."""
    ports: list[int]
    progress: str
    """A file with a counter for each node: how many messages it has received."""


class Marked(msgspec.Struct, frozen=True):
    """What one node has used and seen; the latencies are those since the last mark."""

    cpu_s: float
    latencies_ms: list[float]


class Published(msgspec.Struct, frozen=True):
    """What the publisher did."""

    sent: int
    lost: int
    """Messages that some node did not receive."""
    seconds: float


class Progress:
    """The counters of all nodes, in memory that their processes share."""

    def __init__(self, spec: Spec) -> None:
        self._index = spec.index
        self._size = len(spec.ports)
        with Path(spec.progress).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._size * COUNT.size)

    def set(self, count: int) -> None:
        COUNT.pack_into(self._map, self._index * COUNT.size, count)

    def others(self) -> list[int]:
        counts = [COUNT.unpack_from(self._map, i * COUNT.size)[0] for i in range(self._size)]
        return counts[: self._index] + counts[self._index + 1 :]


class GossipNode:
    """Counts what it receives and publishes as fast as everybody can follow."""

    def __init__(self, spec: Spec, publish: Publish) -> None:
        self._publish = publish
        self._progress = Progress(spec)
        self._received = self._sent = 0
        self._missing = [0] * (len(spec.ports) - 1)
        self._latencies_ms: list[float] = []

    def take(self, data: bytes) -> None:
        """Note a delivered message."""
        _, at = HEAD.unpack_from(data)
        self._latencies_ms.append((time.monotonic() - at) * 1000)
        self._received += 1
        self._progress.set(self._received)

    def mark(self) -> Marked:
        latencies, self._latencies_ms = self._latencies_ms, []
        return Marked(cpu_s=time.process_time(), latencies_ms=latencies)

    def _under_way(self) -> int:
        """Return how many messages the slowest node has yet to receive."""
        counts = zip(self._progress.others(), self._missing, strict=True)
        return self._sent - min(count + missing for count, missing in counts)

    async def _wait(self, under_way: int) -> int:
        """Wait until so few are under way; return how many were given up."""
        last, since = self._progress.others(), time.monotonic()
        while self._under_way() > under_way:
            await trio.sleep(POLL_S)
            now = self._progress.others()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > STALLED_S:
                lost = self._under_way()
                self._missing = [self._sent - count for count in now]
                return lost
        return 0

    async def publish(self, size: int, window: int, seconds: float) -> Published:
        """Publish for some seconds with at most `window` messages under way, then wait for all."""
        body = os.urandom(size - HEAD.size)
        first, lost, began = self._sent, 0, time.monotonic()
        while time.monotonic() - began < seconds:
            lost += await self._wait(window - 1)
            await self._publish(HEAD.pack(self._sent, time.monotonic()) + body)
            self._sent += 1
        lost += await self._wait(0)
        elapsed = time.monotonic() - began
        return Published(sent=self._sent - first, lost=lost, seconds=elapsed)


def seed(index: int) -> bytes:
    return sha256(b"gossip benchmark", bytes([index]))


def address(spec: Spec, index: int) -> str:
    from validator_node.network.host import peer_id_of

    return f"/ip4/{HOST}/tcp/{spec.ports[index]}/p2p/{peer_id_of(seed(index))}"


async def line() -> list[str]:
    """Return the words of the next line of the standard input; none at its end."""
    return (await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)).split()


@asynccontextmanager
async def stock(spec: Spec) -> AsyncIterator[GossipNode]:
    """Run py-libp2p with none of our corrections."""
    import libp2p
    import multiaddr
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
    from libp2p.pubsub.pubsub import Pubsub
    from libp2p.tools.anyio_service import background_trio_service

    listen = multiaddr.Multiaddr(f"/ip4/{HOST}/tcp/{spec.ports[spec.index]}")
    host = libp2p.new_host(key_pair=create_new_key_pair(seed(spec.index)), listen_addrs=[listen])
    # With a heartbeat of 120 s and 10 messages a second from a peer there is nothing to measure.
    router = GossipSub(
        [PROTOCOL_ID_V11, PROTOCOL_ID],
        degree=6,
        degree_low=4,
        degree_high=8,
        heartbeat_interval=1,
        spam_protection_enabled=False,
    )
    pubsub = Pubsub(host, router)
    async with (
        host.run([listen]),
        background_trio_service(pubsub),
        background_trio_service(router),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        subscription = await pubsub.subscribe(TOPIC)
        node = GossipNode(spec, lambda data: pubsub.publish(TOPIC, data))

        async def read() -> None:
            while True:
                message = await subscription.get()
                if message.from_id != host.get_id().to_bytes():
                    node.take(message.data)

        nursery.start_soon(read)
        show("listening")
        await line()
        for index in range(spec.index):
            await host.connect(info_from_p2p_addr(multiaddr.Multiaddr(address(spec, index))))
        yield node
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def ours(spec: Spec) -> AsyncIterator[GossipNode]:
    """Run the product's network with its default budgets."""
    from validator_node.network.gossip import CheckAnswer
    from validator_node.network.network import NetworkConfig, open_network

    config = NetworkConfig(
        seed=seed(spec.index), listen_host=HOST, listen_port=spec.ports[spec.index]
    )
    async with open_network(config) as network, trio.open_nursery() as nursery:
        messages = await network.join(TOPIC, lambda peer_id, data: CheckAnswer.ACCEPT)
        node = GossipNode(spec, lambda data: network.publish(TOPIC, data))

        async def read() -> None:
            async for message in messages:
                node.take(message.data)

        nursery.start_soon(read)
        show("listening")
        await line()
        for index in range(spec.index):
            network.add_bootstrap(address(spec, index))
        await network.wait_connected(len(spec.ports) - 1)
        yield node
        nursery.cancel_scope.cancel()


VARIANTS = {"stock": stock, "ours": ours}


async def main(spec: Spec) -> None:
    async with VARIANTS[spec.variant](spec) as node:
        await trio.sleep(MESH_S)
        show("ready")
        while words := await line():
            if words[0] == "mark":
                show(msgspec.json.encode(node.mark()).decode())
            else:
                _, size, window, seconds = words
                published = await node.publish(int(size), int(window), float(seconds))
                show(msgspec.json.encode(published).decode())


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    trio.run(main, msgspec.json.decode(sys.argv[1], type=Spec))
