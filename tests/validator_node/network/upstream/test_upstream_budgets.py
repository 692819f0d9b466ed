"""Corrections that bound what a peer may use: each test shows the stock fault first."""

import socket
import struct
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT

from tests.validator_node.network.support import nodes, uncorrected, until, victim_and_attacker
from validator_node.network import Network
from validator_node.network.limits import MIB, held_by
from validator_node.network.upstream import (
    buffered_bytes,
    connection_limits,
    inbound_slots,
    stream_limits,
)

HOLD = "/test/hold/1"


def muxer(node: Network) -> Any:
    (connection,) = node._host.get_network().get_connections()
    return connection.muxed_conn


# Connections


async def half_open_connections(count: int) -> int:
    """Open connections that never say a word; return how many are still open."""
    async with nodes(1) as (node,):
        port = int(node.addresses[0].split("/")[4])
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        closed = 0
        try:
            with trio.move_on_after(0.5):
                async with trio.open_nursery() as nursery:
                    for sock in sockets:
                        sock.setblocking(False)

                    async def watch(sock: socket.socket) -> None:
                        nonlocal closed
                        wrapped = trio.socket.from_stdlib_socket(sock)
                        data = b"?"
                        while data:
                            data = await wrapped.recv(100)
                        closed += 1

                    for sock in sockets:
                        nursery.start_soon(watch, sock)
        finally:
            for sock in sockets:
                sock.close()
        return count - closed


async def test_half_open_connections_are_bounded() -> None:
    with uncorrected(inbound_slots):
        assert await half_open_connections(100) == 100
    assert await half_open_connections(100) == 64


async def connections_of_one_peer(count: int) -> int:
    async with victim_and_attacker(HOLD) as (victim, attacker):
        swarm = attacker._host.get_network()
        (first,) = swarm.get_connections()
        # Whoever dials so often does not keep to a limit of his own.
        for _ in range(count - 1):
            try:
                with trio.move_on_after(2):
                    address = attacker._connections._bootstrap[victim.peer_id][0]
                    await swarm._dial_with_retry(address, first.muxed_conn.peer_id)
            except Exception:  # refused; the library raises many kinds
                break
        await trio.testing.wait_all_tasks_blocked(0.05)
        return len(victim._host.get_network().get_connections())


async def test_one_peer_has_four_connections() -> None:
    with uncorrected(connection_limits):
        assert await connections_of_one_peer(6) == 6
    assert await connections_of_one_peer(6) == 4


async def connected_after_a_ban(*, dials: bool) -> bool:
    """Ban the attacker; try to connect from its side, or from ours."""
    async with victim_and_attacker(HOLD) as (victim, attacker):
        victim.charge(attacker.peer_id, "hostile", 1_000.0)
        with trio.fail_after(10):
            await victim.wait_lost(attacker.peer_id)
        if not dials:
            attacker.remove_bootstrap(victim.peer_id)
            victim.add_bootstrap(attacker.addresses[0])
        with trio.move_on_after(1.5):
            await victim.wait_connected(1)
            return True
        return False


@pytest.mark.parametrize("dials", [True, False])
async def test_a_banned_peer_is_refused_whoever_dials(dials: bool) -> None:
    if dials:
        with uncorrected(connection_limits):
            assert await connected_after_a_ban(dials=True)
    assert not await connected_after_a_ban(dials=dials)


# Streams and what lies in them


async def buffered_after_resets(count: int) -> int:
    """Open streams with data on them, each reset by the victim's handler unread."""
    async with victim_and_attacker(HOLD) as (victim, attacker):
        ended = 0

        async def refuse(stream: Any) -> None:
            nonlocal ended
            number = stream.muxed_stream.stream_id
            await until(lambda: muxer(victim).stream_buffers.get(number))
            await stream.reset()
            ended += 1

        victim._host.set_stream_handler(HOLD, refuse)
        for _ in range(count):
            stream = await attacker._opener.open(victim.peer_id, HOLD, max_frame_bytes=1)
            await stream._stream.write(bytes(60_000))
        await until(lambda: ended == count)
        return held_by(muxer(victim))


async def test_a_reset_stream_gives_up_its_buffer() -> None:
    with uncorrected(stream_limits):
        assert await buffered_after_resets(3) >= 3 * 60_000
    assert await buffered_after_resets(3) == 0


async def test_a_stream_counts_until_both_sides_are_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Stream:
        closed = False
        was_reset = False

        async def reset(self) -> None:
            self.was_reset = True

    patient, done = Stream(), Stream()
    done.closed = True
    await stream_limits._linger(done)
    assert trio.current_time() < 1
    await stream_limits._linger(patient)
    assert patient.was_reset
    assert trio.current_time() >= stream_limits.LINGER_S


async def unread_bytes_held(streams: int) -> int:
    """Fill the window of many streams that nobody reads; return the most that was held."""
    async with victim_and_attacker(HOLD, buffered_per_connection=2 * MIB) as (victim, attacker):
        most = 0
        target = muxer(victim)

        async def fill() -> None:
            try:
                stream = await attacker._opener.open(victim.peer_id, HOLD, max_frame_bytes=1)
                await stream._stream.write(bytes(256_000))
            except Exception:  # whatever a cut connection raises
                return

        with trio.move_on_after(15):
            async with trio.open_nursery() as nursery:
                for _ in range(streams):
                    nursery.start_soon(fill)
                while nursery.child_tasks:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                    most = max(most, held_by(target))
        assert victim.buffered_bytes <= 2 * MIB
        return most


async def test_unread_bytes_are_bounded() -> None:
    with uncorrected(buffered_bytes):
        assert await unread_bytes_held(16) > 3 * MIB
    assert await unread_bytes_held(16) < 2 * MIB + 256 * 1024


async def bytes_taken_of_a_huge_frame() -> int:
    """Announce a Yamux frame of 16 MiB on no stream at all, and send what is taken of it."""
    async with victim_and_attacker(HOLD) as (victim, attacker):
        secured, sent = muxer(attacker).secured_conn, 0
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, 9_999, 16 * MIB)
        with trio.move_on_after(20):
            try:
                await secured.write(header)
                while sent < 8 * MIB and attacker.peer_id in victim.peers():
                    await secured.write(bytes(60_000))
                    sent += 60_000
                    await trio.testing.wait_all_tasks_blocked(0.001)
            except Exception:  # whatever a cut connection raises
                return sent
        return sent


async def test_a_huge_yamux_frame_is_not_read() -> None:
    with uncorrected(buffered_bytes):
        assert await bytes_taken_of_a_huge_frame() >= 8 * MIB
    assert await bytes_taken_of_a_huge_frame() < 4 * MIB
