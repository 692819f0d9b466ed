"""Gossip against peers that do not keep to the rules: answers, budgets, control messages."""

import time
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.pubsub.pb import rpc_pb2

from tests.validator_node.network.support import (
    framed,
    nodes,
    open_gossip,
    signed_message,
    until,
    victim_and_attacker,
    yes,
)
from validator_node.network import CheckAnswer, Network
from validator_node.network.gossip_control import MAX_BACK_OFF_S, REPEATS
from validator_node.network.inbound_gossip import MAX_ENTRIES
from validator_node.network.scores import COSTS, LIMIT

TOPIC = "/test/gossip/1"


def answer(_: str, data: bytes) -> CheckAnswer:
    return CheckAnswer(data.decode())


async def answer_later(_: str, data: bytes) -> CheckAnswer:
    await trio.lowlevel.checkpoint()
    return CheckAnswer(data.decode())


@pytest.mark.parametrize("check", [answer, answer_later])
async def test_a_check_accepts_ignores_or_rejects(check: Any) -> None:
    async with nodes(2) as (reader, writer):
        channel = await reader.join(TOPIC, check)
        with trio.fail_after(10):
            await writer.wait_subscriber(TOPIC)
            for data in (b"ignore", b"ignore", b"reject", b"accept"):
                await writer.publish(TOPIC, data)
            assert (await channel.receive()).data == b"accept"
            await until(lambda: reader.counters["refused", "gossip_rejected"] == 1)
        assert reader.counters["refused", "gossip_check"] == 2
        assert reader.counters["charged", "gossip_rejected"] == 1
        assert 0 < reader.score(writer.peer_id) <= COSTS["gossip_rejected"]


async def test_who_forwards_what_is_rejected_is_banned_and_disconnected() -> None:
    async with nodes(2) as (reader, writer):
        banned: list[tuple[str, str]] = []
        reader.on_ban(lambda peer_id, reason: banned.append((peer_id, reason)))
        await reader.join(TOPIC, answer)
        with trio.fail_after(10):
            stream = await open_gossip(writer, reader.peer_id)
            for number in range(int(LIMIT) + 50):
                message = signed_message(writer, TOPIC, b"reject", number)
                await stream.write(framed(rpc_pb2.RPC(publish=[message])))
                if banned:
                    break
                await trio.lowlevel.checkpoint()
            await reader.wait_lost(writer.peer_id)
        assert banned == [(writer.peer_id, "gossip_rejected")]
        assert set(reader.bans()) == {writer.peer_id}


async def send(attacker: Network, victim: Network, rpc: Any) -> None:
    with trio.fail_after(10):
        stream = await open_gossip(attacker, victim.peer_id)
        await stream.write(framed(rpc))


async def test_messages_for_topics_nobody_joined_are_counted_and_gone() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        messages = [signed_message(attacker, f"topic {n}", b"x", n) for n in range(20)]
        await send(attacker, victim, rpc_pb2.RPC(publish=messages))
        await until(lambda: victim.counters["refused", "gossip_unknown_topic"] == 20)
        router = victim._gossip._router
        assert not router.mcache.msgs
        assert not victim._gossip._pubsub.seen_messages.cache
        assert victim.score(attacker.peer_id) <= 20 * COSTS["gossip_unknown_topic"]


async def test_a_forged_author_is_charged_to_the_forwarder() -> None:
    async with nodes(3) as (victim, attacker, author):
        await victim.join(TOPIC, yes)
        message = signed_message(author, TOPIC, b"x", 1)
        message.data = b"y"
        await send(attacker, victim, rpc_pb2.RPC(publish=[message]))
        await until(lambda: victim.counters["refused", "gossip_signature"] == 1)
        assert victim.score(attacker.peer_id) > 4
        assert victim.score(author.peer_id) == 0


async def test_copies_of_a_message_cost_nobody_anything() -> None:
    async with nodes(3) as (victim, first, second):
        channel = await victim.join(TOPIC, yes)
        copy = signed_message(first, TOPIC, b"x", 1)
        streams = [await open_gossip(sender, victim.peer_id) for sender in (first, second)]
        for stream in streams * 2:
            await stream.write(framed(rpc_pb2.RPC(publish=[copy, copy])))
        with trio.fail_after(10):
            assert (await channel.receive()).data == b"x"
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert channel.statistics().current_buffer_used == 0
        assert victim.score(first.peer_id) == victim.score(second.peer_id) == 0


async def test_a_thousand_subscriptions_are_cut_off_and_charged() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        options = [
            rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"topic {number}") for number in range(1000)
        ]
        await send(attacker, victim, rpc_pb2.RPC(subscriptions=options))
        with trio.fail_after(10):
            await victim.wait_lost(attacker.peer_id)
        assert attacker.peer_id in victim.bans()
        await until(lambda: not victim._gossip._pubsub.peer_topics)


async def test_too_fast_a_peer_is_read_more_slowly_and_loses_nothing() -> None:
    async with victim_and_attacker(None, gossip_messages_per_s=50.0) as (victim, attacker):
        channel = await victim.join(TOPIC, yes)
        stream = await open_gossip(attacker, victim.peer_id)
        began = trio.current_time()
        with trio.fail_after(20):
            for number in range(100):  # each costs two: the RPC and the message
                message = signed_message(attacker, TOPIC, b"x", number)
                await stream.write(framed(rpc_pb2.RPC(publish=[message])))
            for _ in range(100):
                await channel.receive()
        assert trio.current_time() - began > 1.5
        assert victim.counters["refused", "gossip_throttled"] > 0
        assert 0 < victim.score(attacker.peer_id) < 20


async def test_an_rpc_of_too_many_entries_is_refused_whole() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message()] * (MAX_ENTRIES + 1))
        await send(attacker, victim, rpc)
        await until(lambda: victim.counters["refused", "gossip_overflow"] == 1)
        assert victim.counters["refused", "gossip_unknown_topic"] == 0


async def test_of_three_gossip_streams_the_oldest_is_reset() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        channel = await victim.join(TOPIC, yes)
        for _ in range(4):
            stream = await open_gossip(attacker, victim.peer_id)
        await until(lambda: victim.counters["reset", "gossip_streams"] >= 2)
        with trio.fail_after(10):
            await stream.write(
                framed(rpc_pb2.RPC(publish=[signed_message(attacker, TOPIC, b"x", 1)]))
            )
            assert (await channel.receive()).data == b"x"
        assert len(victim._gossip._pubsub.inbound._streams[attacker.peer_id]) <= 2


async def test_control_messages_are_cut_down_to_what_an_honest_router_sends() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, yes)
        router = victim._gossip._router
        control = rpc_pb2.ControlMessage(
            prune=[
                rpc_pb2.ControlPrune(
                    topicID=topic,
                    backoff=2**40,
                    peers=[rpc_pb2.PeerInfo(peerID=b"\x00\x01x")],
                )
                for topic in (TOPIC, "unknown")
            ],
            ihave=[rpc_pb2.ControlIHave(topicID="unknown", messageIDs=[b"aa"] * 50)],
        )
        await send(attacker, victim, rpc_pb2.RPC(control=control))
        await until(lambda: TOPIC in router.back_off)
        assert "unknown" not in router.back_off
        ((ends,),) = [list(peers.values()) for peers in router.back_off.values()]
        assert ends <= time.time() + MAX_BACK_OFF_S
        assert not router.ihave_message_limits
        assert len(victim.peers()) == 1  # it dialled nobody


async def test_iwant_gets_a_message_three_times_and_not_more() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, yes)
        with trio.fail_after(10):
            await attacker.join(TOPIC, yes)
            await victim.wait_subscriber(TOPIC)
        await victim.publish(TOPIC, bytes(100_000))
        (wanted,) = victim._gossip._router.mcache.msgs
        sent: list[int] = []
        victim._gossip._router.send_rpc = lambda _, rpc: sent.append(len(rpc.publish))
        stream = await open_gossip(attacker, victim.peer_id)
        for _ in range(REPEATS + 3):
            iwant = rpc_pb2.ControlIWant(messageIDs=[wanted] * 500)
            control = rpc_pb2.ControlMessage(iwant=[iwant])
            await stream.write(framed(rpc_pb2.RPC(control=control)))
        await send(attacker, victim, rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=["end"])]))
        await until(lambda: victim.counters["refused", "gossip_unknown_topic"] == 1)
        assert sent == [1] * REPEATS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x04\xff\xff\xff\xff", "gossip_malformed"),
        (b"\xff" * 11, "gossip_malformed"),
        (b"\x80\x80\x80\x80\x04", "gossip_too_large"),  # 1 GiB
    ],
)
async def test_what_is_no_rpc_is_charged(data: bytes, reason: str) -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        stream = await open_gossip(attacker, victim.peer_id)
        await stream.write(data)
        await until(lambda: victim.counters["charged", reason] == 1)
        assert victim.score(attacker.peer_id) > COSTS[reason] - 1
