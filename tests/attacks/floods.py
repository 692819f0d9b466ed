"""What a hostile stranger does to a node, over real connections, knowing only its address.

Rules: a flood runs until its time is over or the node has cut it off, and reports what it offered
and what was taken off its hands. It keeps to no limit of its own: frames are encoded beforehand,
and the library's own bookkeeping of streams is put aside.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.validator_node.network.support import framed, open_gossip, signed_message
from validator_node.network import Network, NetworkConfig, open_network
from validator_node.network.host import parse_address

CONNECT_S = 20.0
GIB = 1 << 30
SUBSCRIPTIONS = 1_000
HALF_OPEN = 200
LORIS_STREAMS = 64
ENCODED = 1_000
FRESH = "-fresh"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A node to be flooded, and the protocols on which it takes requests and links."""

    address: str
    request_protocol: str = "/validator/1/receipt"
    link_protocol: str = "/validator/1/consensus"

    @property
    def peer_id(self) -> str:
        """The node's peer id."""
        return parse_address(self.address)[0]


@dataclass(kw_only=True, slots=True)
class Report:
    """What came of a flood.

    Attributes:
        offered: frames, subscriptions, connections or streams that were begun.
        taken: those that the node took without resetting or closing what carried them.
        seconds: how long it went on.
        cut_off: whether the node closed the connection, or refused another one.
    """

    offered: int = 0
    taken: int = 0
    seconds: float = 0.0
    cut_off: bool = False
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for people."""
        per_second = f"{self.offered / max(self.seconds, 0.001):.0f}/s"
        end = "cut off" if self.cut_off else "not cut off"
        line = f"offered {self.offered} ({per_second}), taken {self.taken}, {end}"
        return "; ".join([f"{line} after {self.seconds:.2f} s", *self.notes])


Flood = Callable[[Target, Report], Awaitable[None]]


@asynccontextmanager
async def stranger(target: Target, seed: bytes) -> AsyncIterator[Network]:
    """Connect to the target with a new identity, unbounded by our own politeness."""
    config = NetworkConfig(
        seed=seed, listen_host="127.0.0.1", listen_port=0, bootstrap=(target.address,)
    )
    async with open_network(config) as network:
        with trio.fail_after(CONNECT_S):
            await network.wait_connected(1)
        network.remove_bootstrap(target.peer_id)  # once cut off it stays so
        for connection in network._host.get_network().get_connections():
            connection.muxed_conn.stream_backlog_semaphore = trio.Semaphore(1_000_000)
        yield network


async def run(
    name: str,
    target: Target,
    seconds: float,
    seed: bytes | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run one flood for at most `seconds`; `seed` is the stranger's identity.

    A name that ends in "-fresh" has it start again with a new identity whenever it is cut off.
    `told` learns each identity's peer id.

    Raises:
        KeyError: there is no flood of that name.
    """
    report = Report()
    if name == "half-open":
        with trio.move_on_after(seconds):
            await half_open(target, report)
        report.seconds = seconds
        return report
    flood = FLOODS[name.removesuffix(FRESH)]
    deadline = trio.current_time() + seconds
    for identity in itertools.count(1):
        async with stranger(target, seed or os.urandom(32)) as network:
            told(network.peer_id)
            left = seconds if identity == 1 else deadline - trio.current_time()
            await _Bound(network, target, report, left).run(flood)
        if not name.endswith(FRESH) or trio.current_time() >= deadline:
            report.notes.append(f"{identity} identities")
            return report
    raise AssertionError("the count does not end")


class _Bound:
    """A flood under way."""

    def __init__(self, network: Network, target: Target, report: Report, seconds: float) -> None:
        self.network = network
        self.target = target
        self.report = report
        self.seconds = seconds

    async def run(self, flood: Any) -> None:
        prepared = await flood.prepare(self) if hasattr(flood, "prepare") else None
        began = trio.current_time()
        with trio.move_on_after(self.seconds) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, scope)
                await flood(self, prepared)
                nursery.cancel_scope.cancel()
        self.report.seconds += trio.current_time() - began
        self.report.cut_off = self.target.peer_id not in self.network.peers()

    async def _watch(self, scope: trio.CancelScope) -> None:
        await self.network.wait_lost(self.target.peer_id)
        scope.cancel()

    async def open(self, protocol: str) -> Any:
        """Open a raw stream, or None if the node did not give one."""
        try:
            opened = await self.network._opener.open(  # type: ignore[union-attr]
                self.target.peer_id, protocol, max_frame_bytes=1
            )
        except Exception:  # reset or refused, in one of many ways
            return None
        return opened._stream

    async def write(self, stream: Any, data: bytes) -> bool:
        """Write to a stream that may be cut at any time; return whether it was taken."""
        self.report.offered += 1
        try:
            await stream.write(data)
        except Exception:  # whatever a cut stream raises
            return False
        self.report.taken += 1
        return True


class GossipFlood:
    """Signed messages of no sense, encoded beforehand, as fast as the node takes them."""

    async def prepare(self, bound: _Bound) -> list[bytes]:
        """Learn a topic from the node's own subscriptions, and encode for it."""
        pubsub: Any = bound.network._gossip._pubsub
        with trio.fail_after(CONNECT_S):
            while not pubsub.peer_topics:
                await pubsub.changed.wait()
        topic = min(pubsub.peer_topics)
        bound.report.notes[:] = [f"topic {topic}"]
        return [
            framed(rpc_pb2.RPC(publish=[signed_message(bound.network, topic, b"\xc1junk", n)]))
            for n in range(ENCODED)
        ]

    async def __call__(self, bound: _Bound, frames: list[bytes]) -> None:
        """Send them all, again and again."""
        stream = await open_gossip(bound.network, bound.target.peer_id)
        while True:
            for frame in frames:
                if not await bound.write(stream, frame):
                    await bound.network.wait_lost(bound.target.peer_id)


async def subscriptions(bound: _Bound, _: None) -> None:
    """Subscribe to a thousand topics in one RPC, then again, until cut off."""
    options = [
        rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"/flood/{number}")
        for number in range(SUBSCRIPTIONS)
    ]
    frame = framed(rpc_pb2.RPC(subscriptions=options))
    stream = await open_gossip(bound.network, bound.target.peer_id)
    while await bound.write(stream, frame):  # noqa: ASYNC110  # it waits for nothing
        await trio.sleep(0.2)
    await bound.network.wait_lost(bound.target.peer_id)


def huge_prefix(protocol: Callable[[Target], str], prefix: bytes) -> Any:
    """Make a flood of streams, each of which announces 1 GiB and goes on for a while."""

    async def flood(bound: _Bound, _: None) -> None:
        while True:
            stream = await bound.open(protocol(bound.target))
            if stream is None:
                bound.report.offered += 1
                await trio.sleep(0.05)
                continue
            await bound.write(stream, prefix + bytes(60_000))

    return flood


async def slow_loris(bound: _Bound, _: None) -> None:
    """Begin a request on many streams and send a byte of it every half second."""

    async def dribble() -> None:
        while True:
            stream = await bound.open(bound.target.request_protocol)
            if stream is not None and await bound.write(stream, struct.pack("!I", 100)):
                while await bound.write(stream, b"x"):  # noqa: ASYNC110  # slow on purpose
                    await trio.sleep(0.5)
            await trio.sleep(0.5)

    async with trio.open_nursery() as nursery:
        for _number in range(LORIS_STREAMS):
            nursery.start_soon(dribble)


async def half_open(target: Target, report: Report) -> None:
    """Open TCP connections that never say a word; taken are those open at the end."""
    most = 0
    _, address = parse_address(target.address)
    host, port = address.value_for_protocol("ip4"), int(address.value_for_protocol("tcp"))

    async def hold() -> None:
        nonlocal most
        report.offered += 1
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with sock:
            await sock.connect((host, port))
            report.taken += 1
            most = max(most, report.taken)
            data = b"?"
            while data:  # the node speaks first; it says nothing more
                data = await sock.recv(100)
            report.taken -= 1

    try:
        async with trio.open_nursery() as nursery:
            for _number in range(HALF_OPEN):
                nursery.start_soon(_ignoring_resets, hold)
    finally:
        report.notes.append(f"{most} open at once")


async def _ignoring_resets(function: Callable[[], Awaitable[None]]) -> None:
    try:
        await function()
    except OSError:  # a reset is an answer too
        return


_PREFIX = struct.pack("!I", GIB)
FLOODS: dict[str, Any] = {
    "gossip": GossipFlood(),
    "subscriptions": subscriptions,
    "half-open": half_open,
    "huge-gossip": huge_prefix(lambda _: "/meshsub/1.1.0", b"\x80\x80\x80\x80\x04"),
    "huge-request": huge_prefix(lambda target: target.request_protocol, _PREFIX),
    "huge-link": huge_prefix(lambda target: target.link_protocol, _PREFIX),
    "slow-loris": slow_loris,
}
