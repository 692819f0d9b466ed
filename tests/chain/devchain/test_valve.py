"""A shut valve holds back bytes in both directions, and loses none."""

from __future__ import annotations

import trio
import trio.testing

from chain.devchain.valve import Valve, ValvedStream


async def test_nothing_passes_while_it_is_shut(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    valve = Valve()
    stream = ValvedStream(near, valve)
    await far.send_all(b"before")
    assert await stream.receive_some() == b"before"
    valve.turn(shut=True)
    await far.send_all(b"kept")
    for attempt in (stream.receive_some, lambda: stream.send_all(b"held")):
        with trio.move_on_after(100) as scope:
            await attempt()
        assert scope.cancelled_caught
    valve.turn(shut=False)
    with trio.fail_after(1):
        assert await stream.receive_some() == b"kept"
        await stream.send_all(b"after")
        assert await far.receive_some() == b"after"


async def test_what_arrives_while_it_is_being_shut_waits(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    valve = Valve()
    stream = ValvedStream(near, valve)
    received: list[bytes] = []

    async def receive() -> None:
        received.append(bytes(await stream.receive_some()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        valve.turn(shut=True)
        await far.send_all(b"late")
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        valve.turn(shut=False)
    assert received == [b"late"]
