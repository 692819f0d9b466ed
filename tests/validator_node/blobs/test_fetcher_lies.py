"""Lying holders: the right content comes all the same, and nobody honest is blamed."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import decode, encode
from protocol.records.blob import NOT_NOW, BlobReply, BlobRequest
from tests.validator_node.blobs.holders import (
    ALL,
    BLOB,
    CHUNK,
    DIGEST,
    OTHER,
    Peers,
    first,
    gone,
    honest,
    piece,
    silence,
)
from validator_node.blobs.fetcher import BlobFetcher


async def test_a_single_liar_is_reported_and_not_asked_again(autojump_clock):
    peers = Peers(liar=honest(OTHER), good=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher) == BLOB
    assert (peers.lied, fetcher.lies) == (["liar"], 1)
    assert peers.asked == [*(("liar", at) for at in ALL), *(("good", at) for at in ALL)]


async def test_the_liar_in_a_mixture_is_found_and_the_honest_one_is_not_blamed(autojump_clock):
    """Both had a part in the wrong mixture; the honest one sends all of it again."""
    peers = Peers(liar=first(2, gone, blob=OTHER), good=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher) == BLOB
    assert peers.lied == ["liar"]
    assert peers.asked_of("good") == [*ALL[2:], *ALL]
    assert fetcher.fetched_bytes == 2 * len(BLOB)


async def test_an_honest_beginning_is_not_blamed_for_a_lying_end(autojump_clock):
    peers = Peers(good=first(2, gone), liar=honest(b"\0" * CHUNK + OTHER[CHUNK:]), other=honest())
    assert await peers.fetch() == BLOB
    assert peers.lied == ["liar"]
    assert peers.asked_of("liar") == [*ALL[2:], *ALL]
    assert peers.asked_of("other") == ALL


async def test_from_then_on_no_mixture_is_made(autojump_clock):
    """After a wrong mixture a holder that breaks off is not continued by another one."""
    peers = Peers(liar=first(1, gone, blob=OTHER), good=first(8, gone), other=honest())
    assert await peers.fetch() == BLOB
    assert peers.lied == ["liar"]
    # `good` ended the mixture (5 pieces), began again (3 pieces) and vanished.
    assert peers.asked_of("good") == [*ALL[1:], *ALL[:4]]
    assert peers.asked_of("other")[0] == ALL[3]  # what it has is not yet known to be whole
    assert peers.asked_of("other")[1:] == ALL


@pytest.mark.parametrize(
    "reply",
    [
        BlobReply(size=len(BLOB), data=b""),
        BlobReply(size=0, data=b"x"),
        BlobReply(size=NOT_NOW, data=b"x"),
        BlobReply(size=5, data=b"123456"),
    ],
    ids=["no data", "data of nothing", "data and not now", "more than there is"],
)
async def test_replies_that_no_honest_node_sends_are_reported(autojump_clock, reply: BlobReply):
    async def odd(_: BlobRequest) -> BlobReply:
        return reply

    peers = Peers(odd=odd, good=honest())
    assert await peers.fetch() == BLOB
    assert (peers.lied, peers.asked_of("odd")) == (["odd"], [0])


async def test_a_reply_that_is_no_reply_is_reported(autojump_clock):
    lied: list[str] = []

    async def ask(peer_id: str, data: bytes, deadline_s: float) -> bytes:
        return b"\xc1" if peer_id == "odd" else encode(piece(BLOB, decode(BlobRequest, data)))

    fetcher = BlobFetcher(ask, on_lie=lied.append)
    content = await fetcher.fetch(
        DIGEST, size=None, holders=["odd", "good"], max_bytes=len(BLOB), deadline_s=10
    )
    assert (content, lied) == (BLOB, ["odd"])


async def test_a_holder_that_changes_the_size_is_reported(autojump_clock):
    async def growing(request: BlobRequest) -> BlobReply:
        return BlobReply(size=request.offset + 10, data=b"12345")

    peers = Peers(growing=growing, good=honest())
    assert await peers.fetch(size=None) == BLOB
    assert peers.lied == ["growing"]


async def test_another_size_is_no_lie_and_is_not_fetched(autojump_clock):
    """The asker's size may be the wrong one: the miner signed it."""
    peers = Peers(a=honest(BLOB + b"more"), b=honest())
    fetcher = peers.fetcher()
    assert await peers.fetch(fetcher) == BLOB
    assert fetcher.fetched_bytes == len(BLOB)
    assert peers.lied == []


@settings(max_examples=40)
@given(st.data())
def test_some_honest_holder_is_enough_whatever_the_others_do(data: st.DataObject):
    """Lying, slow, vanishing holders in any order and number: the content comes, nobody honest
    is blamed."""
    kinds = data.draw(st.lists(st.sampled_from("lvse"), max_size=5), label="before the honest one")
    pieces = [data.draw(st.integers(0, 4)) for _ in kinds]
    made = {
        "l": lambda count: first(count, honest(OTHER)),
        "v": lambda count: first(count, gone),
        "s": lambda count: first(count, silence),
        "e": lambda count: first(count, gone, blob=OTHER),
    }
    serves = {
        f"{kind}{i}": made[kind](count)
        for i, (kind, count) in enumerate(zip(kinds, pieces, strict=True))
    }
    peers = Peers(**serves, honest=honest())

    async def run() -> None:
        assert await peers.fetch() == BLOB
        assert all(peer_id[0] in "le" for peer_id in peers.lied)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
