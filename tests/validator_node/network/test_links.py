"""Links: order, bounds, admission, and coming back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.validator_node.network.support import nodes, until, yes
from validator_node.network import FrameTooLargeError, Links, Network

PROTOCOL = "/test/links/1"


class Inbox:
    """Frames by sender, with an event for each."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []

    def __call__(self, peer_id: str, frame: bytes) -> None:
        self.frames.append((peer_id, frame))


@asynccontextmanager
async def linked(
    capacity: int = 256,
) -> AsyncIterator[tuple[Network, Network, Links, Links, Inbox]]:
    """Two nodes with their links up; the inbox is the second node's."""
    async with nodes(2) as (first, second):
        inbox = Inbox()
        ours = first.open_links(PROTOCOL, on_frame=Inbox(), capacity=capacity)
        theirs = second.open_links(PROTOCOL, on_frame=inbox, capacity=capacity)
        with trio.fail_after(10):
            await ours.wait_up(1)
            await theirs.wait_up(1)
        yield first, second, ours, theirs, inbox


async def test_a_thousand_frames_arrive_in_order() -> None:
    async with linked(capacity=1000) as (first, second, ours, _theirs, inbox):
        for number in range(1000):
            assert ours.send(second.peer_id, number.to_bytes(4, "big") * 64)
        await until(lambda: len(inbox.frames) == 1000)
        assert inbox.frames == [
            (first.peer_id, number.to_bytes(4, "big") * 64) for number in range(1000)
        ]


async def test_a_large_frame_passes_and_a_larger_is_refused() -> None:
    async with linked() as (_first, second, ours, _theirs, inbox):
        ours.send(second.peer_id, bytes(4_194_304))
        with pytest.raises(FrameTooLargeError):
            ours.send(second.peer_id, bytes(4_194_305))
        await until(lambda: inbox.frames)
        assert len(inbox.frames[0][1]) == 4_194_304


async def test_a_full_queue_drops_the_stalest_and_counts() -> None:
    async with linked(capacity=10) as (first, second, ours, _theirs, inbox):
        for number in range(25):
            ours.send(second.peer_id, bytes([number]))
        await until(lambda: len(inbox.frames) == 10)
        assert [frame[0] for _, frame in inbox.frames] == list(range(15, 25))
        assert first.counters["dropped", "link_queue"] == 15
        assert not ours.send("12D3KooWnobody", b"")
        assert first.counters["dropped", "link_unknown_peer"] == 1


async def test_hello_admits_or_refuses_before_any_frame() -> None:
    async with nodes(3) as (server, friend, stranger):
        asked: list[tuple[str, bytes]] = []
        inbox, up = Inbox(), []

        async def admit(peer_id: str, hello: bytes) -> bool:
            asked.append((peer_id, hello))
            return hello == b"friend"

        server.open_links(PROTOCOL, on_frame=inbox, hello=lambda: b"server", on_hello=admit)
        good = friend.open_links(
            PROTOCOL,
            on_frame=Inbox(),
            hello=lambda: b"friend",
            on_hello=yes,
            on_link_up=up.append,
            wanted=lambda peer_id: peer_id == server.peer_id,
        )
        bad = stranger.open_links(
            PROTOCOL, on_frame=Inbox(), hello=lambda: b"stranger", on_hello=yes
        )
        with trio.fail_after(10):
            await good.wait_up(1)
        assert up == [server.peer_id]
        bad.send(server.peer_id, b"bad")
        good.send(server.peer_id, b"good")
        await until(lambda: server.counters["refused", "link_hello"] >= 2 and inbox.frames)
        assert inbox.frames == [(friend.peer_id, b"good")]
        assert server.peer_id not in bad.up()
        assert (stranger.peer_id, b"stranger") in asked
        assert stranger.peer_id not in {peer_id for peer_id, _ in inbox.frames}


async def test_links_come_back_after_the_connection_was_lost() -> None:
    async with nodes(2) as (first, second):
        inbox, ups = Inbox(), []
        second.open_links(PROTOCOL, on_frame=inbox)
        ours = first.open_links(PROTOCOL, on_frame=Inbox(), on_link_up=ups.append)
        with trio.fail_after(10):
            await ours.wait_up(1)
            for number in range(1, 4):
                await first.disconnect(second.peer_id)
                await until(lambda n=number: len(ups) > n)
                ours.send(second.peer_id, bytes([number]))
                await until(lambda n=number: inbox.frames[-1:] == [(first.peer_id, bytes([n]))])


async def test_a_consumer_that_raises_costs_one_stream_and_is_counted() -> None:
    async with nodes(2) as (first, second):
        seen: list[bytes] = []

        async def fragile(peer_id: str, frame: bytes) -> None:
            if frame == b"poison":
                raise RuntimeError("a bug in the consumer")
            seen.append(frame)

        second.open_links(PROTOCOL, on_frame=fragile)
        ours = first.open_links(PROTOCOL, on_frame=Inbox())
        with trio.fail_after(10):
            await ours.wait_up(1)
            ours.send(second.peer_id, b"poison")
            await until(lambda: second.counters["errors", "link_frame"] == 1)
            await until(lambda: ours.send(second.peer_id, b"next") and seen)


async def test_a_slow_consumer_holds_its_own_peer_back_only() -> None:
    async with nodes(3) as (first, slow, quick):
        release = trio.Event()
        inbox = Inbox()

        async def wait(peer_id: str, frame: bytes) -> None:
            await release.wait()

        slow.open_links(PROTOCOL, on_frame=wait)
        quick.open_links(PROTOCOL, on_frame=inbox)
        ours = first.open_links(PROTOCOL, on_frame=Inbox(), capacity=50)
        with trio.fail_after(10):
            await ours.wait_up(2)
        for number in range(200):
            ours.send(slow.peer_id, bytes(100_000))
            if number < 50:
                ours.send(quick.peer_id, bytes([number]))
        await until(lambda: len(inbox.frames) == 50)
        assert first.counters["dropped", "link_queue"] >= 100
        release.set()


async def test_links_to_a_new_set_of_peers_after_reconsider() -> None:
    async with nodes(2) as (first, second):
        validators: set[str] = set()
        second.open_links(PROTOCOL, on_frame=Inbox())
        ours = first.open_links(PROTOCOL, on_frame=Inbox(), wanted=validators.__contains__)
        assert not ours.send(second.peer_id, b"")
        validators.add(second.peer_id)
        ours.reconsider()
        with trio.fail_after(10):
            await ours.wait_up(1)
