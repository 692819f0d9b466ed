"""Parts of challenges on a virtual clock: who is asked first, and that none keeps another away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from protocol.codec import sha256
from protocol.records.blob import BlobReply, BlobRequest
from tests.validator_node.blobs.holders import (
    BLOB,
    DIGEST,
    Peers,
    dripping,
    first,
    honest,
    nothing,
    silence,
)
from validator_node.module_fetcher import (
    LIMITS,
    MAX_MODULE_BYTES,
    MODULE_DEADLINE_S,
    ModuleFetcher,
)


@asynccontextmanager
async def fetching(peers: Peers) -> AsyncIterator[ModuleFetcher]:
    fetcher = ModuleFetcher(peers.fetcher(), lambda: list(peers.serves))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        yield fetcher
        nursery.cancel_scope.cancel()


async def test_what_nobody_has_is_asked_for_until_the_deadline(autojump_clock) -> None:
    peers = Peers(v1=nothing, v2=nothing)
    async with fetching(peers) as fetcher:
        started = trio.current_time()
        assert await fetcher.fetch(DIGEST) is None
        assert trio.current_time() - started == MODULE_DEADLINE_S
        assert len(fetcher.queue) == 0
    assert len(peers.asked_of("v1")) > 10


async def test_no_holder_is_asked_first_for_ever(autojump_clock) -> None:
    peers = Peers(v1=nothing, v2=nothing, v3=nothing, owner=nothing)
    async with fetching(peers) as fetcher:
        for number in range(10):
            await fetcher.fetch(sha256(b"%d" % number))
    assert {name for name, _ in peers.asked[::4]} == {"v1", "v2", "v3", "owner"}


async def test_a_module_comes_although_a_validator_drips(autojump_clock) -> None:
    peers = Peers(v1=dripping(MAX_MODULE_BYTES), v2=nothing, v3=nothing, owner=honest())
    async with fetching(peers) as fetcher:
        for _ in range(5):
            started = trio.current_time()
            assert await fetcher.fetch(DIGEST) == BLOB
            assert trio.current_time() - started <= MODULE_DEADLINE_S / 2
    assert set(peers.lied) <= {"v1"}


@pytest.mark.parametrize("habit", ["silent", "begins", "drips"])
async def test_modules_that_never_come_only_delay_the_others(autojump_clock, habit: str) -> None:
    size = MAX_MODULE_BYTES
    serve = {"silent": silence, "drips": dripping(size), "begins": first(1, silence, bytes(size))}

    async def bad(request: BlobRequest) -> BlobReply:
        return await (nothing if request.digest == DIGEST else serve[habit])(request)

    peers = Peers(bad=bad)
    never = 4 * LIMITS.slots
    async with fetching(peers) as fetcher, trio.open_nursery() as nursery:
        for number in range(never):
            nursery.start_soon(fetcher.fetch, sha256(bytes([number])))
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        peers.serves["good"] = honest()
        started = trio.current_time()
        assert await fetcher.fetch(DIGEST) == BLOB
        elapsed = trio.current_time() - started
        nursery.cancel_scope.cancel()
    assert peers.most_open <= LIMITS.slots
    assert elapsed <= LIMITS.quantum_s * (1 + never // LIMITS.slots) + LIMITS.first_s


async def test_who_no_longer_wants_a_module_leaves_nothing_behind(autojump_clock) -> None:
    peers = Peers(v1=silence)
    async with fetching(peers) as fetcher:
        with trio.move_on_after(3):
            await fetcher.fetch(DIGEST)
        await trio.testing.wait_all_tasks_blocked()
        assert (len(fetcher.queue), fetcher.queue.in_hand, peers.open) == (0, 0, 0)
