"""Holders that bring junk just fast enough: they cost their turn, not the blob."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from protocol.codec import sha256
from protocol.records.blob import BlobReply, BlobRequest
from tests.validator_node.blobs.holders import (
    ALL,
    BLOB,
    CHUNK,
    Peers,
    dripping,
    honest,
    nothing,
    silence,
)
from validator_node.blobs.transfer import BlobUnavailableError
from validator_node.blobs.turns import MOST_TURNS

LONG = 32 * 1024 * 1024


@pytest.mark.parametrize(
    ("size", "claimed"),
    [(None, LONG), (None, 2 * len(BLOB)), (len(BLOB), len(BLOB))],
    ids=["the longest", "another size", "size known"],
)
async def test_a_dripping_holder_uses_up_no_more_than_its_turn(
    autojump_clock, size: int | None, claimed: int
):
    peers = Peers(drip=dripping(claimed), good=honest())
    started = trio.current_time()
    assert await peers.fetch(size=size, max_bytes=LONG, deadline_s=16.0) == BLOB
    assert trio.current_time() - started == pytest.approx(8.0)


async def test_many_dripping_holders_leave_time_for_an_honest_one(autojump_clock):
    drips = {f"drip {number}": dripping(LONG) for number in range(MOST_TURNS - 1)}
    peers = Peers(**drips, good=honest())
    assert await peers.fetch(size=None, max_bytes=LONG) == BLOB


async def test_who_wasted_its_turn_is_asked_last_for_this_blob_and_others(autojump_clock):
    other = b"another blob"
    peers = Peers(drip=dripping(LONG), good=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher, size=None, max_bytes=LONG) == BLOB
    peers.asked.clear()
    started = trio.current_time()
    assert await peers.fetch(fetcher, size=None, max_bytes=LONG) == BLOB
    assert peers.asked == [("good", offset) for offset in ALL]
    peers.serves["good"] = honest(other)
    assert await peers.fetch(fetcher, digest=sha256(other), size=None) == other
    assert peers.asked_of("drip") == []
    assert trio.current_time() == started


async def test_whoever_was_being_asked_when_the_time_was_up_has_failed(autojump_clock):
    peers = Peers(drip=dripping(LONG))
    fetcher = peers.fetcher()
    with pytest.raises(BlobUnavailableError, match="drip: was being asked when the time was up"):
        await peers.fetch(fetcher, size=None, max_bytes=LONG, deadline_s=20.0)
    peers.serves["good"] = honest()
    peers.asked.clear()
    assert await peers.fetch(fetcher, size=None, max_bytes=LONG) == BLOB
    assert peers.asked_of("drip") == []


async def test_who_does_not_have_it_has_not_failed(autojump_clock):
    peers = Peers(a=nothing, b=honest())
    fetcher = peers.fetcher()
    for _ in range(2):
        assert await peers.fetch(fetcher) == BLOB
    assert len(peers.asked_of("a")) == 2


async def test_who_delivers_is_forgiven(autojump_clock):
    peers = Peers(a=silence, b=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher) == BLOB
    peers.serves["a"] = honest()
    assert await peers.fetch(fetcher, holders=["a"]) == BLOB
    peers.asked.clear()
    assert await peers.fetch(fetcher) == BLOB
    assert peers.asked_of("b") == []


async def test_what_a_slow_honest_holder_brought_in_its_turn_is_used(autojump_clock):
    async def slow(request: BlobRequest) -> BlobReply:
        await trio.sleep(2.9)
        return BlobReply(size=len(BLOB), data=BLOB[request.offset : request.offset + CHUNK])

    peers = Peers(slow=slow, good=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher, deadline_s=12.0) == BLOB
    assert peers.asked_of("good") == ALL[2:]
    assert fetcher.fetched_bytes == len(BLOB)
