"""Corrections against remote input: each test shows the stock fault first, then its absence."""

import gc

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.rcmgr import Direction
from libp2p.utils.varint import encode_varint_prefixed

from tests.validator_node.network.support import config, nodes, uncorrected, until, yes
from validator_node.network import Network, open_network
from validator_node.network.upstream import (
    contained_exceptions,
    duplicate_validation,
    inbound_slots,
    pubsub_reconnect,
    stream_limits,
)

TOPIC = "/test/topic/1"


async def send_rpc(attacker: Network, victim: Network, data: bytes) -> None:
    stream = await attacker._opener.open(victim.peer_id, "/meshsub/1.1.0", max_frame_bytes=1)
    await stream._stream.write(data)


async def garbage_protobuf(attacker: Network, victim: Network) -> None:
    await send_rpc(attacker, victim, b"\x04\xff\xff\xff\xff")


async def undecodable_key(attacker: Network, victim: Network) -> None:
    # A peer id that holds no key (sha256), so that the validator turns to msg.key.
    message = rpc_pb2.Message(
        data=b"x", topicIDs=[TOPIC], from_id=b"\x12\x20" + bytes(32), seqno=bytes(8)
    )
    message.key, message.signature = b"\xff\xff\xff", b"signature"
    rpc = rpc_pb2.RPC(publish=[message])
    await send_rpc(attacker, victim, encode_varint_prefixed(rpc.SerializeToString()))


async def failing_handler(attacker: Network, victim: Network) -> None:
    async def fail(stream: object) -> None:
        raise RuntimeError("a bug in a stream handler")

    victim._host.set_stream_handler("/test/fail/1", fail)
    await attacker._opener.open(victim.peer_id, "/test/fail/1", max_frame_bytes=1)


async def failing_validator(attacker: Network, victim: Network) -> None:
    def fail(forwarder: object, message: object) -> bool:
        raise RuntimeError("a bug in a validator")

    victim._gossip._pubsub.set_topic_validator(TOPIC, fail, False)
    await attacker.wait_subscriber(TOPIC)
    await attacker.publish(TOPIC, b"x")


ATTACKS = (garbage_protobuf, undecodable_key, failing_handler, failing_validator)


async def survives(attack) -> bool:
    """Attack a node and see whether its services, and with them its block, go on."""
    try:
        async with nodes(2) as (attacker, victim):
            with trio.fail_after(10):
                await victim.join(TOPIC, yes)
                await attack(attacker, victim)
            with trio.move_on_after(3):
                await trio.sleep_forever()
    except trio.TooSlowError:
        raise
    except Exception:
        return False
    return True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("attack", ATTACKS)
async def test_stock_ends_the_process_on_one_frame(attack) -> None:
    with uncorrected(contained_exceptions):
        assert not await survives(attack)
    gc.collect()  # the sockets of the crashed services, here and not in another test


@pytest.mark.parametrize("attack", ATTACKS)
async def test_one_frame_is_contained(attack) -> None:
    async with nodes(2) as (victim, attacker):
        channel = await victim.join(TOPIC, yes)
        await attack(attacker, victim)
        if attack is not undecodable_key:
            await until(
                lambda: sum(n for (name, _), n in victim.counters.items() if name == "errors")
            )
        if attack is failing_validator:
            victim._gossip._pubsub.remove_topic_validator(TOPIC)
        with trio.fail_after(10):
            await attacker.wait_subscriber(TOPIC)
            await attacker.publish(TOPIC, b"still here")
            assert (await channel.receive()).data == b"still here"


async def slots_held_after_three_visits() -> int:
    async with open_network(config(1)) as server:
        for number in (2, 3, 4):
            async with open_network(config(number, *server.addresses)) as visitor:
                with trio.fail_after(10):
                    await visitor.wait_connected(1)
                    await server.wait_connected(1)
            with trio.fail_after(10):
                await server.wait_lost(visitor.peer_id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        return server._host.get_network()._inbound_limiter.borrowed_tokens


async def test_inbound_slots_are_released() -> None:
    with uncorrected(inbound_slots):
        assert await slots_held_after_three_visits() == 3
    assert await slots_held_after_three_visits() == 0


async def deliveries_of_one_message_pushed_thrice() -> int:
    async with nodes(1) as (node,):
        entered, release = [], trio.Event()

        async def slow(peer_id: str, data: bytes) -> bool:
            entered.append(data)
            await release.wait()
            return True

        channel = await node.join(TOPIC, slow)
        async with open_network(config(9)) as author:
            pubsub: Pubsub = author._gossip._pubsub
            message = rpc_pb2.Message(
                data=b"x", topicIDs=[TOPIC], from_id=pubsub.my_id.to_bytes(), seqno=bytes(8)
            )
            signed = b"libp2p-pubsub:" + message.SerializeToString()
            message.signature = pubsub.sign_key.sign(signed)
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(node._gossip._pubsub.push_msg, pubsub.my_id, message)
                    await until(lambda: entered)
                    release.set()
        return channel.statistics().current_buffer_used


async def test_a_message_in_validation_is_not_delivered_again() -> None:
    with uncorrected(duplicate_validation):
        assert await deliveries_of_one_message_pushed_thrice() == 3
    assert await deliveries_of_one_message_pushed_thrice() == 1


async def gossip_arrives_after_connections_overlapped() -> bool:
    """Open a second connection, then lose the first one, on which the gossip streams were."""
    async with nodes(2) as (first, second):
        channel = await second.join(TOPIC, yes)
        with trio.fail_after(10):
            await first.wait_subscriber(TOPIC)
        swarm = second._host.get_network()
        (old,) = swarm.get_connections()
        identity = old.muxed_conn.peer_id
        address = second._connections._bootstrap[first.peer_id][0]
        await swarm._dial_with_retry(address, identity)
        await old.close()
        await until(lambda: len(first._host.get_network().get_connections()) == 1)
        with trio.move_on_after(2):
            for data in (b"one", b"two"):
                await first.wait_subscriber(TOPIC)
                await first.publish(TOPIC, data)
                if (await channel.receive()).data != data:
                    return False
            return True
        return False


async def test_gossip_survives_overlapping_connections() -> None:
    with uncorrected(pubsub_reconnect):
        assert not await gossip_arrives_after_connections_overlapped()
    assert await gossip_arrives_after_connections_overlapped()


async def streams_held(count: int) -> int:
    async with nodes(2) as (server, client):

        async def hold(stream: object) -> None:
            await trio.sleep_forever()

        server._host.set_stream_handler("/test/hold/1", hold)
        (connection,) = client._host.get_network().get_connections()
        # A hostile peer does not count its own streams.
        connection.muxed_conn.stream_backlog_semaphore = trio.Semaphore(10_000)
        with trio.move_on_after(20):
            for _ in range(count):
                await connection.new_stream()
        await trio.testing.wait_all_tasks_blocked(0.05)
        (held,) = server._host.get_network().get_connections()
        return sum(stream._direction is Direction.INBOUND for stream in held.streams)


async def test_one_peer_holds_128_streams() -> None:
    with uncorrected(stream_limits):
        assert await streams_held(300) >= 300
    assert await streams_held(300) <= 128
