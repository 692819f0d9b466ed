"""The proxy on real sockets: forwarding, black hole, cut, delay, rate, bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from validator_node.testnet import proxy as module
from validator_node.testnet.proxy import Proxy
from validator_node.testnet.timeline import OPEN, Condition

DEADLINE_S = 10.0
SILENCE_S = 0.3
HOLE, CUT = Condition("hole"), Condition("cut")


async def echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        return


@asynccontextmanager
async def proxied() -> AsyncIterator[Proxy]:
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
            listeners = await nursery.start(serve)
            proxy = Proxy(listeners[0].socket.getsockname()[:2])
            await proxy.listen()
            nursery.start_soon(proxy.run)
            yield proxy
            nursery.cancel_scope.cancel()


async def connect(proxy: Proxy) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", proxy.port)


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        assert more, f"the connection ended after {len(data)} of {size} bytes"
        data += more
    return data


async def expect_reset(proxy: Proxy) -> None:
    """A new connection is reset, at the latest when it is read."""

    async def try_it() -> None:
        async with await connect(proxy) as stream:
            await stream.receive_some(1)

    with pytest.raises((trio.BrokenResourceError, OSError)):
        await try_it()


async def is_silent(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(SILENCE_S):
        await stream.receive_some(1)
        return False
    return True


async def test_what_is_sent_arrives_both_ways_and_is_counted() -> None:
    async with proxied() as proxy, await connect(proxy) as stream:
        sent = bytes(range(256)) * 2000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, sent)
            assert await receive(stream, len(sent)) == sent
        assert proxy.counts.bytes == 2 * len(sent)
        assert proxy.counts.connections == 1


async def test_the_end_of_one_direction_passes_and_the_other_goes_on() -> None:
    async with proxied() as proxy, await connect(proxy) as stream:
        await stream.send_all(b"last words")
        await stream.send_eof()
        assert await receive(stream, 10) == b"last words"
        assert await stream.receive_some(1) == b""


async def test_a_black_hole_holds_everything_and_gives_it_back() -> None:
    async with proxied() as proxy, await connect(proxy) as stream:
        await stream.send_all(b"before")
        assert await receive(stream, 6) == b"before"
        proxy.set(HOLE)
        await stream.send_all(b"meanwhile")
        assert await is_silent(stream)
        async with await connect(proxy) as newcomer:  # accepted, and as silent
            await newcomer.send_all(b"hello")
            assert await is_silent(newcomer)
            proxy.set(OPEN)
            assert await receive(stream, 9) == b"meanwhile"
            assert await receive(newcomer, 5) == b"hello"


async def test_a_black_hole_holds_a_writer_back() -> None:
    async with proxied() as proxy, await connect(proxy) as stream:
        proxy.set(HOLE)
        with trio.move_on_after(1.0) as scope:
            await stream.send_all(bytes(64 * 1024 * 1024))
        assert scope.cancelled_caught


async def test_a_cut_resets_what_is_open_and_what_comes() -> None:
    async with proxied() as proxy:
        async with await connect(proxy) as stream:
            await stream.send_all(b"x")
            assert await receive(stream, 1) == b"x"
            proxy.set(CUT)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some(1)
        await expect_reset(proxy)
        assert proxy.counts.refused == 1
        proxy.set(OPEN)
        async with await connect(proxy) as again:
            await again.send_all(b"y")
            assert await receive(again, 1) == b"y"


async def test_a_cut_that_is_over_at_once_still_cuts() -> None:
    async with proxied() as proxy, await connect(proxy) as stream:
        await stream.send_all(b"x")
        await receive(stream, 1)
        proxy.set(CUT)
        proxy.set(OPEN)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)


async def test_a_delay_holds_each_chunk_and_they_do_not_add_up() -> None:
    async with proxied() as proxy, await connect(proxy) as stream:
        await stream.send_all(b"x")
        await receive(stream, 1)
        proxy.set(Condition("open", delay_ms=200))
        # Each way waits for its reader once: what is being read already is not delayed yet.
        began = trio.current_time()
        for _ in range(10):
            await stream.send_all(b"0123456789")
            await trio.sleep(0.01)
        assert await receive(stream, 100) == b"0123456789" * 10
        assert 0.4 <= trio.current_time() - began < 2.0


async def test_a_rate_is_shared_by_all_connections() -> None:
    async with proxied() as proxy, await connect(proxy) as one, await connect(proxy) as two:
        proxy.set(Condition("open", rate=20_000))
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for stream in (one, two):
                nursery.start_soon(stream.send_all, bytes(10_000))
                nursery.start_soon(receive, stream, 10_000)
        # 20 kB at 20 kB/s each way, of which the way back overlaps the way there.
        assert 0.9 <= trio.current_time() - began < 5.0


async def test_connections_beyond_the_bound_are_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    async with proxied() as proxy, await connect(proxy) as one, await connect(proxy) as two:
        for stream in (one, two):
            await stream.send_all(b"x")
            await receive(stream, 1)
        await expect_reset(proxy)
        assert proxy.counts.refused == 1


async def test_without_a_target_a_connection_is_reset() -> None:
    closed = trio.socket.socket()
    await closed.bind(("127.0.0.1", 0))
    proxy = Proxy(closed.getsockname()[:2])
    with trio.fail_after(DEADLINE_S):
        await proxy.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxy.run)
            await expect_reset(proxy)
            nursery.cancel_scope.cancel()
    closed.close()
