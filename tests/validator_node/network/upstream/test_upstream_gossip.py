"""Corrections that bound what gossip keeps: each test shows the stock fault first."""

from typing import Any

import libp2p.pubsub.pubsub as pubsub_module
import pytest
import trio
import trio.testing
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub

from tests.validator_node.network.support import nodes, uncorrected, victim_and_attacker
from validator_node.network import Network
from validator_node.network.counters import attach
from validator_node.network.upstream import (
    gossip_memory,
    pubsub_queues,
    subscription_limits,
    varint_reads,
)
from validator_node.network.upstream.varint_reads import SlowRpcError


class Dribbler:
    """A stream on which an RPC of 100 bytes begins and never ends."""

    def __init__(self) -> None:
        self.sent = 0

    async def read(self, n: int) -> bytes:
        await trio.sleep(10)
        self.sent += 1
        return b"\x64" if self.sent == 1 else b"x"


async def test_a_gossip_rpc_has_to_end(autojump_clock: trio.testing.MockClock) -> None:
    with uncorrected(varint_reads):
        stock: Any = pubsub_module.read_varint_prefixed_bytes_limited
        began = trio.current_time()
        await stock(Dribbler(), 1_000)
        assert trio.current_time() - began > 900
    read: Any = pubsub_module.read_varint_prefixed_bytes_limited
    began = trio.current_time()
    with pytest.raises(SlowRpcError):
        await read(Dribbler(), 1_000)
    assert trio.current_time() - began < 60


def subscriptions_taken(node: Network, count: int, name: str = "topic {}") -> int:
    pubsub = node._gossip._pubsub
    for number in range(count):
        option = rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name.format(number))
        Pubsub.handle_subscription(pubsub, pubsub.my_id, option)
    return sum(pubsub._peer_subscription_count.values())


async def test_subscriptions_are_bounded_by_peer_and_overflow_is_charged() -> None:
    async with nodes(1) as (node,):
        with uncorrected(subscription_limits):
            assert subscriptions_taken(node, 100) == 100
            assert node.score(node.peer_id) == 0
    async with nodes(1) as (node,):
        assert subscriptions_taken(node, 100) == 64
        assert node.score(node.peer_id) > 30
        assert node.counters["refused", "subscriptions_per_peer"] == 36


async def test_a_long_topic_name_is_ignored() -> None:
    async with nodes(1) as (node,):
        with uncorrected(subscription_limits):
            assert subscriptions_taken(node, 1, "x" * 257) == 1
    async with nodes(1) as (node,):
        assert subscriptions_taken(node, 1, "x" * 257) == 0
        assert node.counters["refused", "topic_name"] == 1


async def test_subscriptions_are_bounded_in_total() -> None:
    async with victim_and_attacker(None, subscriptions_total=10) as (victim, _):
        assert subscriptions_taken(victim, 20) == 10
        assert victim.counters["refused", "subscriptions"] == 10
        assert victim.score(victim.peer_id) == 0  # the others may have filled it


def message(number: int, size: int = 1_000) -> Any:
    return rpc_pb2.Message(
        data=bytes(size), topicIDs=["t"], from_id=b"author", seqno=number.to_bytes(8, "big")
    )


def cached_bytes(count: int) -> int:
    cache = MessageCache(3, 5)
    cache.limit_bytes = 50_000
    for number in range(count):
        cache.put(message(number))
        if number % 10 == 0:
            cache.shift()
    assert count - 1 in {int.from_bytes(mid[-8:], "big") for mid in cache.msgs}
    return sum(msg.ByteSize() for msg in cache.msgs.values())


def test_the_message_cache_is_bounded_in_bytes() -> None:
    with uncorrected(gossip_memory):
        stock = MessageCache(3, 5)
        for number in range(200):
            stock.put(message(number))
        assert sum(msg.ByteSize() for msg in stock.msgs.values()) > 200_000
    assert cached_bytes(1_000) <= 50_000


async def remembered_by_the_router(count: int) -> tuple[int, int]:
    router = GossipSub([PROTOCOL_ID_V11], 6, 4, 8, spam_protection_enabled=False)
    for number in range(count):
        router.recent_message_deliveries["t"].append(float(number))
        router._check_equivocation(message(number))
    return len(router.recent_message_deliveries["t"]), len(router.equivocation_detection)


async def test_the_router_keeps_no_history_of_messages() -> None:
    with uncorrected(gossip_memory):
        assert await remembered_by_the_router(500) == (500, 500)
    assert await remembered_by_the_router(500) == (0, 0)


async def back_offs_left() -> int:
    router = GossipSub([PROTOCOL_ID_V11], 6, 4, 8)
    for number in range(50):
        router.back_off[f"topic {number}"] = {"peer": 1}  # over since 1970
    router._periodic_security_cleanup()
    return len(router.back_off)


async def test_back_offs_that_are_over_are_forgotten() -> None:
    with uncorrected(gossip_memory):
        assert await back_offs_left() == 50
    assert await back_offs_left() == 0


async def pending_bytes() -> int:
    router = GossipSub([PROTOCOL_ID_V11], 6, 4, 8)
    for number in range(50):
        router._prune_pending_messages("peer")
        rpc = rpc_pb2.RPC(publish=[message(number, 100_000)])
        router._pending_messages["peer"].append((9e12, rpc))
    return sum(rpc.ByteSize() for _, rpc in router._pending_messages["peer"])


async def test_messages_for_a_peer_that_has_not_subscribed_are_bounded() -> None:
    with uncorrected(gossip_memory):
        assert await pending_bytes() > 4_900_000
    assert await pending_bytes() <= 1_200_000


async def test_what_waits_for_slow_peers_is_bounded_in_total() -> None:
    async with victim_and_attacker(None, gossip_outbound_bytes=1_000_000) as (victim, _):
        queues = [pubsub_module.RpcQueue() for _ in range(10)]
        for queue in queues:
            pubsub_queues.install(queue, victim._gate)
            attach(queue, victim.counters)
            queue._all_queues = dict(enumerate(queues))
        rpc = rpc_pb2.RPC(publish=[message(1, 100_000)])
        pushed = sum(queue.push(rpc) for _ in range(10) for queue in queues)
        # Each queue that is not slow takes its three, whatever the slow ones hold.
        assert 10 <= pushed <= 32
        assert victim.counters["dropped", "gossip_outbound"] == 100 - pushed
