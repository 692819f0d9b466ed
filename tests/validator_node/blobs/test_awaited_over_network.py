"""Long bodies of several miners at once, between real hosts on loopback, beside one that stalls."""

from __future__ import annotations

import hashlib

import trio

from protocol.codec import sha256
from protocol.records.submission import PostedSubmission, SignedSubmission
from tests.support import World
from tests.validator_node.network.support import nodes
from validator_node.blobs.awaited import AwaitedBodies, BodyCallbacks
from validator_node.blobs.fetcher import BlobFetcher, over
from validator_node.blobs.queue import BODIES
from validator_node.blobs.service import BLOB_PROTOCOL, BlobService

MIB = 1024 * 1024
SIZES = (1 * MIB, 4 * MIB, 8 * MIB)
DEADLINE_S = 100


async def silence(peer_id: str, request: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def test_long_bodies_of_several_miners_come_at_once() -> None:
    world, kept, came = World(), dict[bytes, bytes](), trio.Event()

    def keep(digest: bytes, body: bytes) -> None:
        kept[digest] = body
        if len(kept) == len(SIZES):
            came.set()

    async with nodes(len(SIZES) + 2) as (validator, bad, *miners), trio.open_nursery() as nursery:
        callbacks = BodyCallbacks(
            validators=list,
            has=lambda submission: submission.body_hash in kept,
            keep=keep,
            on_here=lambda _: None,
            on_refused=lambda _posted, _reason: None,
        )
        awaited = AwaitedBodies(BlobFetcher(over(validator)), callbacks, trio.current_time)

        def announce(name: bytes, digest: bytes, size: int, peer_id: str) -> None:
            submission = world.submission(
                digest, hotkey=sha256(name), body_hash=digest, body_size=size
            )
            signed = SignedSubmission(submission=submission, signature=bytes(64))
            awaited.add(PostedSubmission(signed=signed, body=b""), b"", peer_id)

        bad.serve(BLOB_PROTOCOL, silence, max_request_bytes=64, deadline_s=DEADLINE_S)
        for number in range(4):
            announce(b"bad %d" % number, sha256(b"%d" % number), 16 * MIB, bad.peer_id)
        for miner, size in zip(miners, SIZES, strict=True):
            body = hashlib.shake_256(b"%d" % size).digest(size)
            BlobService([{sha256(body): body}.get]).serve(miner)
            announce(b"miner %d" % size, sha256(body), size, miner.peer_id)
        nursery.start_soon(awaited.run)
        with trio.fail_after(DEADLINE_S):
            await came.wait()
        assert awaited.queue.held_bytes <= BODIES.large_bytes + BODIES.kept_bytes
        nursery.cancel_scope.cancel()
    assert sorted(map(len, kept.values())) == sorted(SIZES)
