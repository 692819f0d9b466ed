"""The fetcher on a virtual clock, against holders that serve, stall and vanish."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from protocol.codec import sha256
from protocol.records.blob import NOT_NOW, BlobReply, BlobRequest
from tests.validator_node.blobs.holders import (
    ALL,
    BLOB,
    DIGEST,
    OTHER,
    Peers,
    Serve,
    first,
    gone,
    honest,
    nothing,
    piece,
    silence,
)
from validator_node.blobs.asking import CHUNK_S, GRACE_S, MIN_BYTES_PER_S, NOT_NOW_S
from validator_node.blobs.transfer import BlobUnavailableError


@pytest.mark.parametrize("size", [len(BLOB), None], ids=["size known", "size unknown"])
async def test_one_holder_is_enough(autojump_clock, size: int | None):
    peers = Peers(a=honest(), b=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher, size=size) == BLOB
    assert peers.asked == [("a", offset) for offset in ALL]
    assert (fetcher.fetched, fetcher.fetched_bytes, fetcher.lies) == (1, len(BLOB), 0)
    assert (fetcher.bytes_in_flight, fetcher.calls) == (0, 0)


async def test_who_does_not_have_it_is_passed_over(autojump_clock):
    peers = Peers(a=nothing, b=gone, c=honest())
    assert await peers.fetch() == BLOB
    assert peers.asked[:3] == [("a", 0), ("b", 0), ("c", 0)]
    assert peers.lied == []


@pytest.mark.parametrize("end", [gone, silence, nothing], ids=["vanishes", "stalls", "loses it"])
async def test_the_next_holder_goes_on_where_one_stopped(autojump_clock, end: Serve):
    peers = Peers(a=first(3, end), b=honest())
    fetcher = peers.fetcher()
    started = trio.current_time()
    assert await peers.fetch(fetcher) == BLOB
    assert peers.asked_of("a") == ALL[:4]
    assert peers.asked_of("b") == ALL[3:]
    assert fetcher.fetched_bytes == len(BLOB)  # not a byte twice
    assert trio.current_time() - started == pytest.approx(CHUNK_S if end is silence else 0)
    assert peers.lied == []


async def test_holders_are_asked_again_as_long_as_they_bring_something(autojump_clock):
    """Two holders that break off after every piece still bring it home."""

    def breaking_off() -> Serve:
        turn = 0

        async def serve(request: BlobRequest) -> BlobReply:
            nonlocal turn
            turn += 1
            return piece(BLOB, request) if turn % 2 else await gone(request)

        return serve

    peers = Peers(a=breaking_off(), b=breaking_off())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher) == BLOB
    assert fetcher.fetched_bytes == len(BLOB)


async def test_a_holder_that_trickles_is_left(autojump_clock):
    async def trickle(request: BlobRequest) -> BlobReply:
        await trio.sleep(1.0)
        return BlobReply(size=len(BLOB), data=BLOB[request.offset : request.offset + 100])

    peers = Peers(slow=trickle, fast=honest())
    started = trio.current_time()
    assert await peers.fetch() == BLOB
    assert trio.current_time() - started == pytest.approx(GRACE_S + 1)
    assert len(peers.asked_of("slow")) == GRACE_S + 1
    assert peers.asked_of("fast")[0] == 100 * (GRACE_S + 1)


async def test_a_holder_that_keeps_the_least_pace_is_kept(autojump_clock):
    async def steady(request: BlobRequest) -> BlobReply:
        reply = piece(BLOB, request)
        await trio.sleep(len(reply.data) / (1.01 * MIN_BYTES_PER_S))
        return reply

    peers = Peers(steady=steady, fast=honest())
    assert await peers.fetch() == BLOB
    assert peers.asked_of("fast") == []


async def test_a_holder_whose_budget_is_used_up_is_asked_again(autojump_clock):
    refusals = 3

    async def budgeted(request: BlobRequest) -> BlobReply:
        nonlocal refusals
        if request.offset and refusals:
            refusals -= 1
            return BlobReply(size=NOT_NOW, data=b"")
        return piece(BLOB, request)

    peers = Peers(a=budgeted, b=honest())
    started = trio.current_time()
    assert await peers.fetch() == BLOB
    assert trio.current_time() - started == pytest.approx(3 * NOT_NOW_S)
    assert peers.asked_of("b") == []


async def test_who_is_never_ready_is_left(autojump_clock):
    async def never(_: BlobRequest) -> BlobReply:
        return BlobReply(size=NOT_NOW, data=b"")

    peers = Peers(a=never, b=honest())
    started = trio.current_time()
    assert await peers.fetch() == BLOB
    assert GRACE_S <= trio.current_time() - started <= GRACE_S + 2 * NOT_NOW_S


# --- failing, sharing, bounds --------------------------------------------------------------------


async def test_the_error_names_what_each_holder_said(autojump_clock):
    peers = Peers(a=nothing, b=gone, c=honest(OTHER), d=silence)
    fetcher = peers.fetcher()
    with pytest.raises(BlobUnavailableError) as caught:
        await peers.fetch(fetcher)
    assert caught.value.said == {
        "a": "does not have it",
        "b": "no connection",
        "c": "sent other content",
        "d": "d did not answer",
    }
    assert DIGEST.hex()[:16] in str(caught.value)
    assert "b: no connection" in str(caught.value)
    assert (fetcher.failed, fetcher.bytes_in_flight, fetcher.calls) == (1, 0, 0)


async def test_the_deadline_is_for_everything(autojump_clock):
    peers = Peers(a=silence, b=silence, c=silence)
    started = trio.current_time()
    with pytest.raises(BlobUnavailableError):
        await peers.fetch(deadline_s=12.0)
    assert trio.current_time() - started == pytest.approx(12)


async def test_nobody_is_asked_for_nothing(autojump_clock):
    peers = Peers(a=honest())
    assert await peers.fetch(digest=sha256(b""), size=0) == b""
    assert peers.asked == []
    with pytest.raises(BlobUnavailableError, match="nobody was asked"):
        await peers.fetch(holders=[])


async def test_more_than_is_wanted_or_may_be_in_flight_is_refused(autojump_clock):
    peers = Peers(a=honest())
    with pytest.raises(BlobUnavailableError, match="at most 100 are wanted"):
        await peers.fetch(size=None, max_bytes=100)
    assert peers.asked_of("a") == [0]
    with pytest.raises(BlobUnavailableError, match="at most 100 are fetched"):
        await peers.fetch(peers.fetcher(max_bytes_in_flight=100))
    with pytest.raises(BlobUnavailableError, match="at most 99 are fetched"):
        await peers.fetch(max_bytes=99)
    assert len(peers.asked) == 1


async def test_who_asks_at_the_same_time_shares_the_transfer(autojump_clock):
    peers = Peers(a=honest())
    fetcher = peers.fetcher()
    results = []

    async def one() -> None:
        results.append(await peers.fetch(fetcher))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert len(peers.asked) == len(ALL)
    assert all(result is results[0] for result in results)
    assert fetcher.bytes_in_flight == 0


async def test_if_the_first_asker_gives_up_the_next_goes_on(autojump_clock):
    peers = Peers(a=first(2, silence), b=honest())
    fetcher = peers.fetcher()

    async def impatient() -> None:
        with trio.move_on_after(1):
            await peers.fetch(fetcher, holders=["a"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        assert await peers.fetch(fetcher, holders=["b"]) == BLOB
    assert peers.asked_of("b") == ALL[2:]
    assert fetcher.fetched_bytes == len(BLOB)


@pytest.mark.parametrize(
    ("limits", "most"), [({"max_concurrent": 3}, 3), ({"max_bytes_in_flight": 5500}, 5)]
)
async def test_concurrent_fetches_and_bytes_in_flight_are_bounded(
    autojump_clock, limits: dict[str, int], most: int
):
    blobs = [bytes([number]) * 1000 for number in range(20)]
    by_digest = {sha256(blob): blob for blob in blobs}

    async def late(request: BlobRequest) -> BlobReply:
        await trio.sleep(1)
        return piece(by_digest[request.digest], request)

    peers = Peers(a=late)
    fetcher = peers.fetcher(**limits)
    seen = []

    async def one(blob: bytes) -> None:
        got = await peers.fetch(fetcher, digest=sha256(blob), size=1000, max_bytes=1000)
        seen.append(fetcher.bytes_in_flight)
        assert got == blob

    async with trio.open_nursery() as nursery:
        for blob in blobs:
            nursery.start_soon(one, blob)
    assert len(seen) == 20
    assert peers.most_open == most
    assert max(seen) <= limits.get("max_bytes_in_flight", 20_000)
    assert fetcher.bytes_in_flight == 0


async def test_waiting_calls_are_bounded(autojump_clock):
    peers = Peers(a=silence)
    fetcher = peers.fetcher(max_waiting=2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(peers.fetch, fetcher)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BlobUnavailableError, match="2 fetches are under way"):
            await peers.fetch(fetcher)
        nursery.cancel_scope.cancel()
    assert (fetcher.calls, fetcher.bytes_in_flight) == (0, 0)
