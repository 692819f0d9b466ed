"""Links and requests against peers that do not keep to the rules."""

import struct
from contextlib import AsyncExitStack

import pytest
import trio

from tests.validator_node.network.support import config, nodes, until, victim_and_attacker, yes
from validator_node.network import Network, PeerUnreachableError, open_network, requests
from validator_node.network.errors import PeerBusyError
from validator_node.network.links import MAX_HELLO_BYTES, UNADMITTED_PER_PEER
from validator_node.network.scores import COSTS
from validator_node.network.shares import READING_PER_PEER, TOTAL
from validator_node.network.standing import Standing
from validator_node.network.streams import FramedStream

LINKS = "/test/strangers/links/1"
ASK = "/test/strangers/ask/1"


async def no(peer_id: str, data: bytes) -> bool:
    return False


async def echo(peer_id: str, data: bytes) -> bytes:
    return data


async def raw(attacker: Network, victim: Network, protocol: str) -> FramedStream:
    assert attacker._opener is not None
    with trio.fail_after(10):
        return await attacker._opener.open(victim.peer_id, protocol, max_frame_bytes=1 << 31)


def open_links(victim: Network, on_hello=no) -> None:
    victim.open_links(
        LINKS, on_frame=lambda *_: None, hello=lambda: b"me", on_hello=on_hello, wanted=lambda _: 0
    )


async def test_a_hello_is_small_and_what_comes_after_may_be_large() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        open_links(victim, yes)
        stream = await raw(attacker, victim, LINKS)
        await stream._stream.write(struct.pack("!I", MAX_HELLO_BYTES + 1))
        await until(lambda: victim.counters["charged", "frame_too_large"] == 1)
        assert victim.score(attacker.peer_id) > COSTS["frame_too_large"] - 1
        admitted = await raw(attacker, victim, LINKS)
        await admitted.send(b"hello", deadline_s=5)
        assert await admitted.receive(deadline_s=5) == b""
        await admitted.send(bytes(4 * MAX_HELLO_BYTES), b"next", deadline_s=5)
        assert victim.counters["reset", "link_too_large"] == 1


async def test_a_refused_hello_is_charged() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        open_links(victim, no)
        stream = await raw(attacker, victim, LINKS)
        await stream.send(b"who are you", deadline_s=5)
        await until(lambda: victim.counters["charged", "hello_refused"] == 1)
        assert victim.score(attacker.peer_id) > 0.5


async def test_few_streams_of_a_peer_may_be_about_to_say_hello() -> None:
    async with victim_and_attacker(None) as (victim, attacker):
        open_links(victim, yes)
        for _ in range(UNADMITTED_PER_PEER + 2):
            await raw(attacker, victim, LINKS)
        await until(lambda: victim.counters["refused", "link_hellos"] == 2)


async def test_a_frame_once_begun_has_to_end() -> None:
    async with victim_and_attacker(None, frame_s=0.2) as (victim, attacker):
        open_links(victim, yes)
        victim.serve(ASK, echo, max_request_bytes=100, deadline_s=60)
        link = await raw(attacker, victim, LINKS)
        await link.send(b"hello", deadline_s=5)
        assert await link.receive(deadline_s=5) == b""
        request = await raw(attacker, victim, ASK)
        for stream in (link, request):
            await stream._stream.write(struct.pack("!I", 100) + b"x")
        await until(lambda: victim.counters["charged", "slow_frame"] == 2)
        assert victim.counters["reset", "timed_out"] == 1
        assert victim.counters["reset", "link_timed_out"] == 1


async def test_an_idle_link_is_no_slow_frame() -> None:
    async with victim_and_attacker(None, frame_s=0.05) as (victim, attacker):
        open_links(victim, yes)
        link = await raw(attacker, victim, LINKS)
        await link.send(b"hello", deadline_s=5)
        await link.receive(deadline_s=5)
        with trio.move_on_after(0.5):
            await link.receive(deadline_s=None)
        assert not victim.counters["charged", "slow_frame"]


async def test_silent_streams_of_many_peers_shut_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nine peers of one address with sixteen silent requests each once took every slot."""
    monkeypatch.setattr(requests, "ARRIVAL_S", 60.0)  # on a slow machine too they are all there
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_network(config(1)))
        server.serve(ASK, echo, max_request_bytes=100, deadline_s=60)
        assert server._requests is not None
        shares = server._requests._shares
        for number in range(2, 11):
            idle = await stack.enter_async_context(open_network(config(number, *server.addresses)))
            with trio.fail_after(20):
                await idle.wait_connected(1)
            for _ in range(READING_PER_PEER):
                await raw(idle, server, ASK)
        with trio.fail_after(20):
            await until(lambda: shares.reading == 9 * READING_PER_PEER)
        honest = await stack.enter_async_context(open_network(config(11, *server.addresses)))
        with trio.fail_after(20):
            await honest.wait_connected(1)
            for _ in range(20):
                reply = await honest.request(
                    server.peer_id, ASK, b"mine", deadline_s=10, max_reply_bytes=10
                )
                assert reply == b"mine"
        assert server.score(honest.peer_id) == 0


async def test_our_own_fullness_is_told_and_not_charged() -> None:
    async with nodes(2) as (server, client):
        server.serve(ASK, echo, max_request_bytes=100, deadline_s=20)
        assert server._requests is not None
        for number in range(2 * TOTAL):
            server._requests._shares.begin_work(f"stranger {number}", f"192.0.2.{number}")
        with pytest.raises(PeerBusyError, match="no room"):
            await client.request(server.peer_id, ASK, b"a", deadline_s=5, max_reply_bytes=1)
        assert server.counters["refused", "requests_total"] == 1
        assert server.score(client.peer_id) == 0
        server.standings.assign(Standing.MEMBER, [client.peer_id])
        reply = await client.request(server.peer_id, ASK, b"a", deadline_s=5, max_reply_bytes=1)
        assert reply == b"a"


async def test_a_banned_peer_is_not_asked() -> None:
    async with nodes(2) as (server, client):
        client.charge(server.peer_id, "hostile", 1_000.0)
        with pytest.raises(PeerUnreachableError, match="banned"):
            await client.request(server.peer_id, ASK, b"", deadline_s=5, max_reply_bytes=1)
