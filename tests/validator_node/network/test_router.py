"""Many subscribers of one node, silent strangers, and what a mesh owes to whom; on real hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.validator_node.network.support import (
    config,
    framed,
    nodes,
    open_gossip,
    signed_message,
    until,
    victim_and_attacker,
    yes,
)
from validator_node.network import CheckAnswer, Network, open_network
from validator_node.network.gossip_control import IHAVE_RPCS, REPEATS
from validator_node.network.mesh import DEGREE, HIGH
from validator_node.network.standing import Standing

TOPIC = "/test/router/1"
WAIT_S = 60


def accept(_: str, data: bytes) -> CheckAnswer:
    return CheckAnswer.ACCEPT


def ignore(_: str, data: bytes) -> CheckAnswer:
    return CheckAnswer.IGNORE


@asynccontextmanager
async def around(hubs: list[Network], count: int, first: int) -> AsyncIterator[list[Network]]:
    """Run nodes that know the hubs and nobody else."""
    known = tuple(hub.addresses[0] for hub in hubs)
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(open_network(config(number, *known)))
            for number in range(first, first + count)
        ]
        with trio.fail_after(WAIT_S):
            for node in found:
                await node.wait_connected(len(hubs))
        yield found


def mesh_of(node: Network) -> set[str]:
    return {str(peer) for peer in node._gossip._router.mesh[TOPIC]}


async def numbers(channel: Any, count: int) -> set[bytes]:
    return {(await channel.receive()).data for _ in range(count)}


async def test_of_28_observers_of_one_node_each_receives_everything() -> None:
    async with nodes(1) as (hub,), around([hub], 28, 10) as observers:
        async with around([hub], 1, 60) as (miner,):
            await hub.join(TOPIC, accept)
            channels = [await observer.join(TOPIC, accept) for observer in observers]
            with trio.fail_after(WAIT_S):
                await hub.wait_subscriber(TOPIC, len(observers))
                await miner.wait_subscriber(TOPIC)
                await until(lambda: len(mesh_of(hub)) == HIGH)
                sent = {b"%d" % number for number in range(20)}
                for data in sorted(sent):
                    await miner.publish(TOPIC, data)
                    await trio.sleep(0.1)  # over several heartbeats, before and after prunings
                for channel in channels:
                    assert await numbers(channel, len(sent)) == sent
        assert not hub.bans()
        assert all(hub.score(observer.peer_id) == 0 for observer in observers)
        assert all(observer.score(hub.peer_id) == 0 for observer in observers)


async def test_silent_strangers_do_not_keep_honest_peers_out_of_a_mesh() -> None:
    async with nodes(1) as (hub,), around([hub], 16, 10) as silent:
        await hub.join(TOPIC, accept)
        for stranger in silent:
            await stranger.join(TOPIC, ignore)
        await hub.wait_subscriber(TOPIC, len(silent))
        with trio.fail_after(WAIT_S):
            await until(lambda: len(mesh_of(hub)) >= DEGREE)
        async with around([hub], 3, 60) as honest, around(honest, 1, 70) as (miner,):
            channels = [await node.join(TOPIC, accept) for node in honest]
            with trio.fail_after(WAIT_S):
                await miner.wait_subscriber(TOPIC, 3)
                number = 0
                while len(mesh_of(hub) & {node.peer_id for node in honest}) < 2:
                    await miner.publish(TOPIC, b"%d" % number)
                    number += 1
                    await trio.sleep(0.1)
                for channel in channels:
                    await numbers(channel, number)
                await until(lambda: len(mesh_of(hub)) <= HIGH)  # by the next heartbeat
            assert all(hub.score(node.peer_id) == 0 for node in honest)


async def test_members_join_a_mesh_that_strangers_filled_and_are_sent_everything() -> None:
    async with nodes(1) as (hub,), around([hub], HIGH, 10) as strangers:
        await hub.join(TOPIC, accept)
        for stranger in strangers:
            await stranger.join(TOPIC, accept)
        router = hub._gossip._router
        async with around([hub], 1, 60) as (member,):
            with trio.fail_after(WAIT_S):
                await hub.wait_subscriber(TOPIC, HIGH)
                router.mesh[TOPIC].update(stranger._host.get_id() for stranger in strangers)
                hub.standings.assign(Standing.MEMBER, [member.peer_id])
                channel = await member.join(TOPIC, accept)
                while member.peer_id not in mesh_of(hub):  # noqa: ASYNC110 - gives no event
                    await trio.sleep(0.05)
                router.gossip_heartbeat = dict  # pushed, not asked for
                assert len(mesh_of(hub)) == HIGH + 1
                await hub.publish(TOPIC, b"in the mesh")
                assert (await channel.receive()).data == b"in the mesh"
                router._impose(TOPIC, member._host.get_id(), 60)
                router.mesh[TOPIC].discard(member._host.get_id())
                await strangers[0].publish(TOPIC, b"in back-off")
                assert (await channel.receive()).data == b"in back-off"


async def send_control(node: Network, to: Network, stream: Any = None, **entries: Any) -> Any:
    stream = stream or await open_gossip(node, to.peer_id)
    control = rpc_pb2.ControlMessage(**entries)
    await stream.write(framed(rpc_pb2.RPC(control=control)))
    return stream


async def test_a_graft_within_our_back_off_is_refused_and_charged() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, accept)
        router, peer = victim._gossip._router, attacker._host.get_id()
        with trio.fail_after(WAIT_S):
            await attacker.join(TOPIC, accept)
            await until(lambda: mesh_of(victim) == {attacker.peer_id})
            router.mesh[TOPIC].discard(peer)
            router._impose(TOPIC, peer, 60)
            graft = rpc_pb2.ControlGraft(topicID=TOPIC)
            stream = await send_control(attacker, victim, graft=[graft])
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert victim.score(attacker.peer_id) == 0  # it may have crossed our PRUNE
            began, ends = router._imposed[TOPIC, peer]
            router._imposed[TOPIC, peer] = began - 10, ends
            await send_control(attacker, victim, stream, graft=[graft])
            await until(lambda: victim.counters["refused", "gossip_graft"] == 1)
        assert mesh_of(victim) == set()
        assert victim.score(attacker.peer_id) > 0


async def test_a_graft_without_subscription_finds_no_place() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, accept)
        router = victim._gossip._router
        with trio.fail_after(WAIT_S):
            await send_control(attacker, victim, graft=[rpc_pb2.ControlGraft(topicID=TOPIC)])
            await until(lambda: router._imposed)
        assert mesh_of(victim) == set()


async def test_offers_beyond_those_of_an_honest_router_are_not_looked_at() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, accept)
        router = victim._gossip._router
        seen: list[int] = []
        router.control.promises.ask = lambda _, ids: seen.append(len(ids)) or []
        router.control._ihaves.clear = lambda: None  # one heartbeat, however long the test takes
        ihave = rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"\xff%d" % n for n in range(9)])
        stream = None
        with trio.fail_after(WAIT_S):
            for _ in range(IHAVE_RPCS + 5):
                stream = await send_control(attacker, victim, stream, ihave=[ihave])
            await until(lambda: victim.counters["refused", "gossip_ihave"] == 5)
        assert seen == [9] * IHAVE_RPCS
        assert 0 < victim.score(attacker.peer_id) < 1


async def test_subscribing_anew_gets_a_message_no_more_often_than_asking() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, accept)
        with trio.fail_after(WAIT_S):
            await attacker.join(TOPIC, accept)
            await victim.wait_subscriber(TOPIC)
            await victim.publish(TOPIC, bytes(1_000))
            router = victim._gossip._router
            router.mcache.shift = lambda: None  # it stays recent
            sent: list[int] = []
            router.send_rpc = lambda _, rpc, **__: sent.append(len(rpc.publish))
            stream = await open_gossip(attacker, victim.peer_id)
            for _ in range(10):
                for wanted in (False, True):
                    option = rpc_pb2.RPC.SubOpts(subscribe=wanted, topicid=TOPIC)
                    await stream.write(framed(rpc_pb2.RPC(subscriptions=[option])))
                    await trio.testing.wait_all_tasks_blocked(0.01)
        assert 0 < sum(sent) <= REPEATS


async def test_our_own_message_reaches_subscribers_outside_the_mesh_at_once() -> None:
    async with nodes(1) as (author,), around([author], HIGH + 4, 10) as readers:
        await author.join(TOPIC, accept)
        channels = [await reader.join(TOPIC, accept) for reader in readers]
        with trio.fail_after(WAIT_S):
            await author.wait_subscriber(TOPIC, len(readers))
            author._gossip._router.gossip_heartbeat = dict  # nobody is told of anything
            await author.publish(TOPIC, b"x")
            for channel in channels:
                assert (await channel.receive()).data == b"x"


async def test_what_was_refused_is_not_asked_for() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        await victim.join(TOPIC, ignore)
        asked: list[int] = []
        victim._gossip._router.control.promises.ask = lambda _, ids: asked.append(len(ids)) or []
        message = signed_message(attacker, TOPIC, b"x", 1)
        with trio.fail_after(WAIT_S):
            stream = await open_gossip(attacker, victim.peer_id)
            await stream.write(framed(rpc_pb2.RPC(publish=[message])))
            await until(lambda: victim.counters["refused", "gossip_check"] == 1)
            ids = [message.from_id + message.seqno, b"\xffnews"]
            ihave = rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=ids)
            await send_control(attacker, victim, stream, ihave=[ihave])
            await until(lambda: asked)
        assert asked == [1]


async def test_a_mesh_of_two_keeps_delivering() -> None:
    async with nodes(2) as (reader, writer):
        channel = await reader.join(TOPIC, yes)
        with trio.fail_after(WAIT_S):
            await writer.wait_subscriber(TOPIC)
            for number in range(30):
                await writer.publish(TOPIC, b"%d" % number)
                assert (await channel.receive()).data == b"%d" % number


async def test_a_graft_that_comes_before_our_own_stream_is_open_finds_its_place() -> None:
    async with victim_and_attacker(None) as (victim, early):
        await victim.join(TOPIC, accept)
        router, peer = victim._gossip._router, early._host.get_id()
        with trio.fail_after(WAIT_S):
            await early.join(TOPIC, accept)
            await victim.wait_subscriber(TOPIC)
            router.mesh[TOPIC].discard(peer)
            stream = victim._gossip._pubsub.peers.pop(peer)
            await router.handle_graft(rpc_pb2.ControlGraft(topicID=TOPIC), peer)
            victim._gossip._pubsub.peers[peer] = stream
        assert mesh_of(victim) == {early.peer_id}
        assert not router._imposed


async def test_who_just_came_into_a_mesh_is_told_of_what_was_before() -> None:
    async with victim_and_attacker(None) as (victim, late):
        await victim.join(TOPIC, accept)
        router, peer = victim._gossip._router, late._host.get_id()
        with trio.fail_after(WAIT_S):
            channel = await late.join(TOPIC, accept)
            await victim.wait_subscriber(TOPIC)
            router.mesh[TOPIC].clear()
            router.is_reserved, router._subscribed = lambda _: False, lambda _: []
            await victim.publish(TOPIC, b"before")  # nobody is there to take it
            del router.is_reserved, router._subscribed
            router._enter(TOPIC, peer)
            assert (await channel.receive()).data == b"before"


async def test_a_topic_joined_while_a_peer_is_greeted_is_announced_to_it() -> None:
    async with nodes(1) as (hub,), trio.open_nursery() as nursery, open_network(config(10)) as node:
        pubsub = node._gossip._pubsub
        greet = pubsub.get_hello_packet

        def greet_and_join() -> Any:
            packet = greet()
            if TOPIC not in pubsub.joined:
                nursery.start_soon(node.join, TOPIC, accept)
            return packet

        pubsub.get_hello_packet = greet_and_join
        node.add_bootstrap(hub.addresses[0])
        with trio.fail_after(WAIT_S):
            await hub.wait_subscriber(TOPIC)
