"""The facade: gossip, links, requests and refusals between whole nodes on loopback."""

import socket
import struct
import time

import pytest
import trio

from tests.validator_node.network.support import config, nodes, until, yes
from validator_node.network import (
    AddressInUseError,
    AlreadyJoinedError,
    DeadlineExceededError,
    FrameTooLargeError,
    InvalidAddressError,
    ListenError,
    MessageTooLargeError,
    Network,
    NetworkConfig,
    PeerUnreachableError,
    StreamClosedError,
    open_network,
    peer_id_of,
)

TOPIC = "/test/submissions/1"
ASK = "/test/ask/1"


async def reverse(peer_id: str, data: bytes) -> bytes:
    return data[::-1]


async def test_a_client_that_joined_nothing_reaches_every_node() -> None:
    async with nodes(4) as servers:
        channels = [await node.join(TOPIC, lambda peer_id, data: True) for node in servers]
        began = time.perf_counter()
        client_config = config(9, *servers[0].addresses)
        async with open_network(client_config) as client:
            with trio.fail_after(10):
                await client.wait_subscriber(TOPIC)
                await client.publish(TOPIC, b"submission")
                for channel in channels:
                    message = await channel.receive()
                    assert message.data == b"submission"
                    assert message.author == client.peer_id
        assert time.perf_counter() - began < 5


async def test_publishing_right_after_connecting_needs_no_wait() -> None:
    async with nodes(1) as (server,):
        channel = await server.join(TOPIC, yes)
        async with open_network(config(9, *server.addresses)) as client:
            with trio.fail_after(10):
                await client.wait_connected(1)
                await client.publish(TOPIC, b"early")
                assert (await channel.receive()).data == b"early"


async def test_only_what_the_check_admits_is_delivered_and_forwarded() -> None:
    def even(peer_id: str, data: bytes) -> bool:
        if data == b"crash":
            raise RuntimeError("a bug in the check")
        return data[0] % 2 == 0

    async with nodes(3) as (first, middle, last):
        await middle.disconnect(last.peer_id)
        first_channel = await first.join(TOPIC, yes)
        middle_channel = await middle.join(TOPIC, even)
        with trio.fail_after(10):
            await last.wait_subscriber(TOPIC, 2)
            for data in (b"crash", b"\x01", b"\x02"):
                await last.publish(TOPIC, data)
            assert (await middle_channel.receive()).data == b"\x02"
            await until(lambda: first_channel.statistics().current_buffer_used == 3)
        assert middle.counters["refused", "gossip_check"] >= 1
        assert middle.counters["errors", "gossip_check"] >= 1


async def test_a_full_gossip_queue_drops_and_counts() -> None:
    async with nodes(2) as (reader, writer):
        await reader.join(TOPIC, yes, capacity=3)
        with trio.fail_after(10):
            await writer.wait_subscriber(TOPIC)
            for number in range(10):
                await writer.publish(TOPIC, bytes([number]))
            await until(lambda: reader.counters["dropped", "gossip_queue"] == 7)


async def test_gossip_of_the_full_size_passes_and_more_is_refused() -> None:
    async with nodes(2) as (reader, writer):
        channel = await reader.join(TOPIC, yes)
        small = await reader.join("/test/small/1", yes, max_bytes=10)
        with trio.fail_after(10):
            await writer.wait_subscriber(TOPIC)
            await writer.wait_subscriber("/test/small/1")
            await writer.publish(TOPIC, bytes(262_144))
            assert len((await channel.receive()).data) == 262_144
            with pytest.raises(MessageTooLargeError, match="262145 bytes"):
                await writer.publish(TOPIC, bytes(262_145))
            await writer.publish("/test/small/1", bytes(11))
            await writer.publish("/test/small/1", bytes(10))
            assert len((await small.receive()).data) == 10
        assert reader.counters["refused", "gossip_too_large"] == 1


async def test_a_topic_is_joined_once_and_its_channel_ends_with_leave() -> None:
    async with nodes(1) as (node,):
        channel = await node.join(TOPIC, yes)
        with pytest.raises(AlreadyJoinedError):
            await node.join(TOPIC, yes)
        await node.leave(TOPIC)
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


async def test_request_and_reply() -> None:
    async with nodes(2) as (server, client):
        server.serve(ASK, reverse, max_request_bytes=1 << 20, deadline_s=5)
        with pytest.raises(AlreadyJoinedError):
            server.serve(ASK, reverse, max_request_bytes=1, deadline_s=5)
        for data in (b"", b"abc", bytes(range(256)) * 4096):
            with trio.fail_after(10):
                reply = await client.request(
                    server.peer_id, ASK, data, deadline_s=5, max_reply_bytes=1 << 20
                )
            assert reply == data[::-1]
        with pytest.raises(FrameTooLargeError):
            await client.request(server.peer_id, ASK, b"abc", deadline_s=5, max_reply_bytes=2)
        with pytest.raises(StreamClosedError):
            await client.request(
                server.peer_id, ASK, bytes(1 + (1 << 20)), deadline_s=5, max_reply_bytes=1
            )
        assert server.counters["reset", "too_large"] == 1
        with pytest.raises(PeerUnreachableError):
            await client.request(server.peer_id, "/no/1", b"", deadline_s=5, max_reply_bytes=1)
        with pytest.raises(PeerUnreachableError):
            await client.request(peer_id_of(bytes(32)), ASK, b"", deadline_s=5, max_reply_bytes=1)


async def test_a_handler_that_fails_or_hangs_costs_only_its_request() -> None:
    async def failing(peer_id: str, data: bytes) -> bytes:
        raise RuntimeError("a bug in the handler")

    async def hanging(peer_id: str, data: bytes) -> bytes:
        await trio.sleep_forever()
        return b""

    async with nodes(2) as (server, client):
        server.serve("/test/failing/1", failing, max_request_bytes=10, deadline_s=5)
        server.serve("/test/hanging/1", hanging, max_request_bytes=10, deadline_s=0.1)
        server.serve("/test/hanging/2", hanging, max_request_bytes=10, deadline_s=60)
        with pytest.raises(StreamClosedError):
            await ask(client, server, "/test/failing/1")
        with pytest.raises(StreamClosedError):
            await ask(client, server, "/test/hanging/1")
        with pytest.raises(DeadlineExceededError):
            await ask(client, server, "/test/hanging/2", deadline_s=0.1)
        assert server.counters["errors", "request_handler"] == 1
        assert server.counters["reset", "timed_out"] == 1


async def test_a_peer_gets_sixteen_handlers_at_once() -> None:
    release = trio.Event()

    async def waiting(peer_id: str, data: bytes) -> bytes:
        await release.wait()
        return data

    async with nodes(2) as (server, client):
        server.serve(ASK, waiting, max_request_bytes=10, deadline_s=10)
        outcomes: list[str] = []

        async def one() -> None:
            try:
                await ask(client, server, ASK, deadline_s=10)
                outcomes.append("replied")
            except (StreamClosedError, PeerUnreachableError):  # the reset may overtake negotiation
                outcomes.append("refused")

        with trio.fail_after(15):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one)
                await until(lambda: len(outcomes) == 4)
                release.set()
        assert outcomes.count("replied") == 16
        assert server.counters["refused", "requests_per_peer"] == 4


async def ask(client: Network, server: Network, protocol: str, deadline_s: float = 5) -> bytes:
    return await client.request(
        server.peer_id, protocol, b"?", deadline_s=deadline_s, max_reply_bytes=10
    )


async def test_abandoned_requests_leak_no_streams() -> None:
    """A connection has 256 streams: 400 requests given up at any point must leave it usable."""
    async with nodes(2) as (server, client):
        server.serve(ASK, reverse, max_request_bytes=10, deadline_s=5)
        for number in range(400):
            with trio.move_on_after(number * 0.00002):
                await ask(client, server, ASK)
        with trio.fail_after(10):
            assert await ask(client, server, ASK) == b"?"
        (connection,) = client._host.get_network().get_connections()
        await until(lambda: connection.muxed_conn.stream_backlog_semaphore.value >= 250)


async def test_garbage_on_meshsub_is_survived_and_counted() -> None:
    async with nodes(2) as (victim, attacker):
        victim.serve(ASK, reverse, max_request_bytes=10, deadline_s=5)
        channel = await victim.join(TOPIC, yes)
        for garbage in (b"\xff" * 40, b"\x0a\x05hello", b""):
            stream = await attacker._opener.open(
                victim.peer_id, "/meshsub/1.1.0", max_frame_bytes=100
            )
            await stream._stream.write(bytes([len(garbage)]) + garbage)
        await until(lambda: victim.counters["errors", "gossip_rpc"] >= 1)
        with trio.fail_after(10):
            assert await ask(attacker, victim, ASK) == b"?"
            await attacker.wait_subscriber(TOPIC)
            await attacker.publish(TOPIC, b"still here")
            assert (await channel.receive()).data == b"still here"


async def test_plaintext_is_refused() -> None:
    """Multistream offers Noise and nothing else: "na" is its refusal."""
    async with nodes(1) as (node,):
        port = int(node.addresses[0].split("/")[4])
        for protocol in ("/plaintext/2.0.0", "/tls/1.0.0", "/secio/1.0.0"):
            with trio.fail_after(10):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                async with stream:
                    await stream.send_all(multistream("/multistream/1.0.0", protocol))
                    answer = b""
                    while b"na\n" not in answer:
                        data = await stream.receive_some()
                        assert data, f"closed after {answer!r}"
                        answer += data
                    assert protocol.encode() not in answer


def multistream(*lines: str) -> bytes:
    return b"".join(bytes([len(line) + 1]) + line.encode() + b"\n" for line in lines)


async def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUseError, match=rf"127\.0\.0\.1 port {port} is in use: stop"):
            async with open_network(config(1, port=port)):
                pass
    async with open_network(config(1)) as node:
        port = int(node.addresses[0].split("/")[4])
        with pytest.raises(AddressInUseError):
            async with open_network(config(2, port=port)):
                pass


@pytest.mark.parametrize("host", ["nonsense", "192.0.2.1"])
async def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ListenError, match=host):
        async with open_network(NetworkConfig(seed=bytes(32), listen_host=host, listen_port=0)):
            pass


@pytest.mark.parametrize("address", ["", "/ip4/127.0.0.1/tcp/1", "/p2p/x", "/ip4/1/tcp/2/p2p/3"])
async def test_a_malformed_bootstrap_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddressError):
        async with open_network(config(1, address)):
            pass


async def test_the_peer_id_follows_from_the_seed() -> None:
    async with nodes(1, first=7) as (node,):
        assert node.peer_id == peer_id_of(b"\x07" * 32)
        assert all(address.endswith(f"/p2p/{node.peer_id}") for address in node.addresses)
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        peer_id_of(bytes(31))


async def test_errors_of_the_block_come_out_as_themselves() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with nodes(2):
            raise KeyError("mine")


async def test_cancellation_ends_a_network_quickly() -> None:
    began = time.perf_counter()
    with trio.move_on_after(0.5) as scope:
        async with nodes(3):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert time.perf_counter() - began < 5


async def test_a_frame_with_a_huge_length_is_not_read() -> None:
    async with nodes(2) as (server, attacker):
        server.serve(ASK, reverse, max_request_bytes=10, deadline_s=5)
        stream = await attacker._opener.open(server.peer_id, ASK, max_frame_bytes=100)
        await stream._stream.write(struct.pack("!I", 0xFFFFFFFF))
        await until(lambda: server.counters["reset", "too_large"] == 1)
        with pytest.raises(StreamClosedError):
            await stream.receive(deadline_s=5)
