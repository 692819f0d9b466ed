"""Corrections of queues, caches, numbers and sockets; each test shows the stock value first."""

import socket
import time

import libp2p.network.swarm as swarm_module
import libp2p.pubsub.pubsub as pubsub_module
import libp2p.transport.tcp.tcp as tcp_module
import pytest
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.swarm import _NegativePeerCache
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.transport.exceptions import OpenConnectionError

from tests.validator_node.network.support import config, nodes, uncorrected
from validator_node.network import open_network
from validator_node.network.counters import PROCESS, Counters, attach
from validator_node.network.host import make_host
from validator_node.network.limits import Gate, Limits
from validator_node.network.scores import Scores
from validator_node.network.upstream import (
    CORRECTIONS,
    apply_all,
    auto_connector,
    dead_sockets,
    dial_cache,
    dial_delay,
    exclusive_port,
    patching,
    pubsub_queues,
    sequence_numbers,
)


def test_every_correction_applies_once() -> None:
    apply_all()
    count = len(patching.APPLIED)
    apply_all()
    assert len(patching.APPLIED) == count
    assert {name for name, *_ in patching.APPLIED.values()} == {c.__name__ for c in CORRECTIONS}


def undialable_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> bool:
    now = 1_000.0
    monkeypatch.setattr(swarm_module.time, "monotonic", lambda: now)
    cache = _NegativePeerCache()
    cache.mark_failed("peer")
    now += seconds
    return cache.is_blocked("peer")


def test_a_failed_dial_is_forgotten_after_2_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncorrected(dial_cache):
        assert undialable_after(59, monkeypatch)
    assert undialable_after(1.9, monkeypatch)
    assert not undialable_after(2.1, monkeypatch)


async def seconds_to_connect() -> float:
    async with open_network(config(1)) as server, open_network(config(2)) as client:
        began = time.perf_counter()
        client.add_bootstrap(server.addresses[0])
        swarm = client._host.get_network()
        with trio.fail_after(10):
            await client.wait_connected(1)
            while swarm._ongoing_dials:
                await next(iter(swarm._ongoing_dials.values())).wait()
        return time.perf_counter() - began


async def test_a_dial_takes_less_than_the_stock_delay() -> None:
    with uncorrected(dial_delay):
        assert await seconds_to_connect() >= 0.25
    assert await seconds_to_connect() < 0.25


def accepted_by_a_queue(count: int, size: int = 1) -> tuple[int, Counters]:
    queue, counters = RpcQueue(), Counters()
    attach(queue, counters)
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(size))])
    return sum(queue.push(rpc) for _ in range(count)), counters


async def test_outbound_queues_hold_512_and_count_drops() -> None:
    with uncorrected(pubsub_queues):
        accepted, counters = accepted_by_a_queue(600)
        assert (accepted, counters.total()) == (32, 0)
        assert pubsub_module.SUBSCRIPTION_CHANNEL_SIZE == 32
    accepted, counters = accepted_by_a_queue(600)
    assert accepted == 512
    assert counters["dropped", "gossip_outbound"] == 88
    assert accepted_by_a_queue(100, size=1_000_000)[0] == 8
    assert pubsub_module.SUBSCRIPTION_CHANNEL_SIZE == 1_024


async def test_a_queue_that_was_emptied_takes_its_bytes_again() -> None:
    queue = RpcQueue()
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(1_000_000))])
    for _ in range(50):
        assert queue.push(rpc)
        assert await queue.pop() is rpc


async def test_a_full_subscription_is_counted() -> None:
    async with nodes(1) as (node,):
        pubsub = node._gossip._pubsub
        await pubsub.subscribe("topic")
        message = rpc_pb2.Message(data=b"x", topicIDs=["topic"])
        for _ in range(1_030):
            Pubsub.notify_subscriptions(pubsub, message)
        assert node.counters["dropped", "gossip_subscription"] == 6


async def first_sequence_number() -> int:
    host = make_host(
        bytes(32), "127.0.0.1", 0, Gate(Limits(), Scores(trio.current_time, PROCESS), PROCESS)
    )
    pubsub = Pubsub(host, GossipSub([PROTOCOL_ID_V11], 6, 4, 8))
    return int.from_bytes(pubsub._next_seqno(), "big")


async def test_sequence_numbers_do_not_repeat_after_a_restart() -> None:
    """A node publishes 20 messages and restarts within the second."""
    with uncorrected(sequence_numbers):
        assert await first_sequence_number() + 20 >= await first_sequence_number()
    assert await first_sequence_number() + 20 < await first_sequence_number()


async def test_a_port_is_not_shared() -> None:
    with uncorrected(exclusive_port):
        (listener,) = await tcp_module._open_reuseport_listeners("127.0.0.1", 0)
        port = listener.socket.getsockname()[1]
        (second,) = await tcp_module._open_reuseport_listeners("127.0.0.1", port)
        await second.aclose()
        await listener.aclose()
    (listener,) = await tcp_module._open_reuseport_listeners("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    with pytest.raises(OpenConnectionError):
        await tcp_module._open_reuseport_listeners("127.0.0.1", port)
    await listener.aclose()


async def test_the_auto_connector_dials_nobody() -> None:
    class Swarm:
        def get_total_connections(self) -> int:
            raise AssertionError("it looked for peers to dial")

    connector = AutoConnector(Swarm())
    await connector.start()
    with uncorrected(auto_connector), pytest.raises(AssertionError, match="it looked"):
        await connector.maybe_connect()
    await connector.maybe_connect()


async def keep_alive() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        TrioTCPStream(stream)
        return stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_connections_are_kept_alive() -> None:
    with uncorrected(dead_sockets):
        assert await keep_alive() == 0
    assert await keep_alive() == 1
