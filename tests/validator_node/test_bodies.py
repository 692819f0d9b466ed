"""Bodies and modules on a virtual clock: who is asked first, and how many at a time."""

from __future__ import annotations

import trio
import trio.testing

from protocol.codec import sha256
from tests.support import World
from tests.validator_node.blobs.holders import BLOB, DIGEST, Peers, dripping, honest, nothing
from validator_node.blobs.fetcher import MAX_UNSIZED_BYTES
from validator_node.bodies import (
    MAX_MODULE_BYTES,
    MODULE_DEADLINE_S,
    MODULE_WAIT_S,
    MODULES_AT_ONCE,
    Bodies,
)
from validator_node.store import Store

VALIDATORS = ["v1", "v2", "v3"]


def bodies_from(store: Store, peers: Peers) -> Bodies:
    return Bodies(store, peers.fetcher(), lambda: VALIDATORS, lambda: ["owner"])


async def test_a_body_is_kept(world: World, store: Store, autojump_clock) -> None:
    peers = Peers(v1=nothing, v2=honest(), v3=nothing)
    submission = world.submission(BLOB)
    assert await bodies_from(store, peers).body(submission) == BLOB
    assert store.body(DIGEST) == BLOB
    missing = world.submission(b"nobody has it")
    assert await bodies_from(store, peers).body(missing) is None
    assert not store.has_body(missing.body_hash)


async def test_no_holder_is_asked_first_for_ever(
    world: World, store: Store, autojump_clock
) -> None:
    peers = Peers(v1=nothing, v2=nothing, v3=nothing, owner=nothing)
    bodies = bodies_from(store, peers)
    first_of_modules, first_of_bodies = set(), set()
    for number in range(200):
        peers.asked.clear()
        assert await bodies.module(sha256(b"%d" % number)) is None
        first_of_modules.add(peers.asked[0][0])
        assert {peer_id for peer_id, _ in peers.asked} == {*VALIDATORS, "owner"}
        peers.asked.clear()
        assert await bodies.body(world.submission(b"%d" % number)) is None
        first_of_bodies.add(peers.asked[0][0])
    assert first_of_modules == {*VALIDATORS, "owner"}
    assert first_of_bodies == set(VALIDATORS)


async def test_a_module_comes_although_a_validator_drips(store: Store, autojump_clock) -> None:
    peers = Peers(v1=dripping(MAX_MODULE_BYTES), v2=nothing, v3=nothing, owner=honest())
    bodies = bodies_from(store, peers)
    for _ in range(5):
        started = trio.current_time()
        assert await bodies.module(DIGEST) == BLOB
        assert trio.current_time() - started <= MODULE_DEADLINE_S / 2
    assert set(peers.lied) <= {"v1"}


async def test_modules_that_never_come_only_delay_the_others(store: Store, autojump_clock) -> None:
    peers = Peers(v1=dripping(MAX_MODULE_BYTES), v2=nothing, v3=nothing, owner=honest())
    bodies = Bodies(store, peers.fetcher(), lambda: ["v1"], list)
    came: list[tuple[float, bytes | None]] = []

    async def never(number: int) -> None:
        assert await bodies.module(sha256(bytes([number]))) is None

    async def wanted() -> None:
        content = await bodies.module(DIGEST)
        came.append((trio.current_time(), content))

    async with trio.open_nursery() as nursery:
        for number in range(2 * MODULES_AT_ONCE):
            nursery.start_soon(never, number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wanted)
        await trio.sleep(MODULE_DEADLINE_S + 1)
        assert peers.most_open == MODULES_AT_ONCE
        peers.serves["v1"] = honest()
    [(at, content)] = came
    assert content == BLOB
    assert at <= 2 * MODULE_DEADLINE_S + 1


async def test_the_wait_for_other_modules_ends(store: Store, autojump_clock) -> None:
    peers = Peers(v1=dripping(MAX_MODULE_BYTES))
    bodies = Bodies(store, peers.fetcher(), lambda: ["v1"])
    batches = int(MODULE_WAIT_S / MODULE_DEADLINE_S) + 2

    async def never(number: int) -> None:
        assert await bodies.module(sha256(bytes([number]))) is None

    async with trio.open_nursery() as nursery:
        for number in range(batches * MODULES_AT_ONCE):
            nursery.start_soon(never, number)
    assert trio.current_time() <= MODULE_WAIT_S + MODULE_DEADLINE_S + 1


def test_the_modules_at_once_fit_into_the_bytes_for_them() -> None:
    assert MODULES_AT_ONCE * MAX_MODULE_BYTES <= MAX_UNSIZED_BYTES
