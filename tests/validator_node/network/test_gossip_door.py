"""What gossip turns away before it verifies a signature, and whom that slows down."""

from __future__ import annotations

from typing import Any

import libp2p.pubsub.pubsub as pubsub_module
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
from validator_node.network.scores import COSTS
from validator_node.network.standing import Standing

TOPIC = "/test/door/1"
WAIT_S = 20


def accept(_: str, data: bytes) -> CheckAnswer:
    return CheckAnswer.ACCEPT


def glance(data: bytes) -> CheckAnswer | None:
    return None if data.startswith(b"good") else CheckAnswer.USELESS


def numbered(author: Network, number: bytes, data: bytes = b"x") -> Any:
    """Make a message with this sequence number, signed as its author would."""
    pubsub = author._gossip._pubsub
    message = rpc_pb2.Message(
        data=data, topicIDs=[TOPIC], from_id=pubsub.my_id.to_bytes(), seqno=number
    )
    message.signature = pubsub.sign_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    return message


class Signatures:
    """Counts the signatures of authors that are verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.verified = 0
        self._verify: Any = pubsub_module.signature_validator
        monkeypatch.setattr(pubsub_module, "signature_validator", self._count)

    def _count(self, message: Any) -> bool:
        self.verified += 1
        valid: bool = self._verify(message)
        return valid


async def flood(attacker: Network, victim: Network, count: int, *, first: int = 1) -> None:
    """Send useless messages on a stream of its own, a message an RPC."""
    stream = await open_gossip(attacker, victim.peer_id)
    for number in range(first, first + count):
        message = signed_message(attacker, TOPIC, b"bad %d" % number, number)
        await stream.write(framed(rpc_pb2.RPC(publish=[message])))


@pytest.mark.parametrize("length", [0, 1, 4, 7, 9, 32])
async def test_a_sequence_number_has_eight_bytes_or_goes_no_further(length: int) -> None:
    async with nodes(3) as (victim, attacker, neighbour):
        channels = [await node.join(TOPIC, yes) for node in (victim, neighbour)]
        await victim.wait_subscriber(TOPIC, 1)
        stream = await open_gossip(attacker, victim.peer_id)
        wrong, right = numbered(attacker, bytes(length)), numbered(attacker, bytes(8), b"right")
        with trio.fail_after(WAIT_S):
            await stream.write(framed(rpc_pb2.RPC(publish=[wrong, right])))
            for channel in channels:
                assert (await channel.receive()).data == b"right"
        assert victim.counters["refused", "gossip_sequence"] == 1
        assert victim.score(attacker.peer_id) > COSTS["gossip_sequence"] - 0.9
        assert neighbour.counters["refused", "gossip_sequence"] == 0
        assert [channel.statistics().current_buffer_used for channel in channels] == [0, 0]


async def test_our_own_messages_have_such_a_number() -> None:
    async with nodes(2) as (reader, writer):
        channel = await reader.join(TOPIC, yes)
        with trio.fail_after(WAIT_S):
            await writer.wait_subscriber(TOPIC)
            await writer.publish(TOPIC, b"x")
            await channel.receive()
        assert [len(m.seqno) for m in reader._gossip._router.mcache.msgs.values()] == [8]


async def test_what_the_glance_turns_away_costs_no_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        channel = await victim.join(TOPIC, accept, glance=glance)
        signatures = Signatures(monkeypatch)
        with trio.fail_after(WAIT_S):
            await flood(attacker, victim, 30)
            stream = await open_gossip(attacker, victim.peer_id)
            good = signed_message(attacker, TOPIC, b"good", 1_000)
            await stream.write(framed(rpc_pb2.RPC(publish=[good])))
            assert (await channel.receive()).data == b"good"
            await until(lambda: victim.counters["refused", "gossip_useless"] == 30)
        assert signatures.verified == 1
        assert victim.score(attacker.peer_id) == 0  # an honest peer may know less than we do


async def test_who_brings_useless_messages_is_slowed_and_nobody_else() -> None:
    async with nodes(3) as (victim, attacker, honest):
        channel = await victim.join(TOPIC, accept, glance=glance)
        with trio.fail_after(WAIT_S):
            await honest.wait_subscriber(TOPIC)
            await flood(attacker, victim, 200)
            for number in range(20):
                await honest.publish(TOPIC, b"good %d" % number)
            for number in range(20):
                assert (await channel.receive()).data == b"good %d" % number
        assert victim.counters["refused", "gossip_slowed"] > 0
        assert victim.counters["refused", "gossip_useless"] < 150
        assert victim.score(attacker.peer_id) == victim.score(honest.peer_id) == 0


async def test_a_new_stream_is_no_new_budget() -> None:
    async with victim_and_attacker(None, gossip_useless_per_s=2.0) as (victim, attacker):
        await victim.join(TOPIC, accept, glance=glance)
        with trio.fail_after(WAIT_S):
            for round_ in range(3):
                await flood(attacker, victim, 10, first=1 + 10 * round_)
            await until(lambda: victim.counters["refused", "gossip_slowed"] >= 3)
        assert victim._gossip._pubsub.door.owed_s(attacker.peer_id) > 0
        assert victim.counters["refused", "gossip_useless"] < 20


async def test_strangers_share_a_budget_and_members_have_their_own() -> None:
    limits = {"gossip_useless_per_s": 1_000.0, "gossip_useless_total_per_s": 0.5}
    async with victim_and_attacker(None, **limits) as (victim, attacker):
        await victim.join(TOPIC, accept, glance=glance)
        door = victim._gossip._pubsub.door
        with trio.fail_after(WAIT_S):
            await flood(attacker, victim, 5)
            await until(lambda: victim.counters["refused", "gossip_slowed"] >= 1)
        assert door.owed_s("another stranger") > 0
        victim.standings.assign(Standing.REGISTERED, ["one with a hotkey"])
        victim.standings.assign(Standing.MEMBER, ["a member"])
        for known in ("one with a hotkey", "a member"):
            door.spend(known, 100.0)
            assert door.owed_s(known) == 0.0


async def test_of_an_rpc_full_of_useless_messages_the_rest_is_not_read() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, accept, glance=glance)
        messages = [signed_message(attacker, TOPIC, b"bad", number) for number in range(500)]
        with trio.fail_after(WAIT_S):
            stream = await open_gossip(attacker, victim.peer_id)
            await stream.write(framed(rpc_pb2.RPC(publish=messages)))
            await until(lambda: victim.counters["refused", "gossip_unread"] > 400)
        assert victim.counters["refused", "gossip_useless"] < 50


async def test_a_refused_message_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, lambda *_: CheckAnswer.IGNORE)
        signatures = Signatures(monkeypatch)
        message = signed_message(attacker, TOPIC, b"x", 1)
        with trio.fail_after(WAIT_S):
            stream = await open_gossip(attacker, victim.peer_id)
            for _ in range(20):
                await stream.write(framed(rpc_pb2.RPC(publish=[message])))
            end = rpc_pb2.Message(topicIDs=["end"])
            await stream.write(framed(rpc_pb2.RPC(publish=[end])))
            await until(lambda: victim.counters["refused", "gossip_unknown_topic"] == 1)
        assert signatures.verified == 1


async def test_a_member_finds_a_place_in_validation_that_strangers_filled() -> None:
    async with victim_and_attacker(None, gossip_in_check=4) as (victim, attacker):
        release = trio.Event()

        async def wait(_: str, data: bytes) -> bool:
            if data == b"slow":
                await release.wait()
            return True

        channel = await victim.join(TOPIC, wait)
        stream = await open_gossip(attacker, victim.peer_id)
        slow = [signed_message(attacker, TOPIC, b"slow", number) for number in range(1, 6)]
        with trio.fail_after(WAIT_S):
            await stream.write(framed(rpc_pb2.RPC(publish=slow)))
            inbound = victim._gossip._pubsub.inbound
            await until(lambda: inbound._in_check_unreserved.value == 0)
            victim.standings.assign(Standing.MEMBER, [attacker.peer_id])
            member = await open_gossip(attacker, victim.peer_id)
            quick = signed_message(attacker, TOPIC, b"quick", 100)
            await member.write(framed(rpc_pb2.RPC(publish=[quick])))
            assert (await channel.receive()).data == b"quick"
            release.set()
