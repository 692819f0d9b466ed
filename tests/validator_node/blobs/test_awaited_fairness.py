"""A few registered hotkeys against everybody's bodies: what honest miners see, on a virtual clock.

Hostile hotkeys announce as many bodies as they may, for ever, and their peers stall, begin and
stall, or send junk just fast enough to be kept. Every honest body has to come all the same.
"""

from __future__ import annotations

import random

import pytest
import trio

from protocol.codec import sha256
from protocol.records.blob import BlobReply, BlobRequest
from protocol.records.submission import MAX_BODY_BYTES, PostedSubmission, SignedSubmission
from tests.support import World
from tests.validator_node.blobs.holders import Peers, Serve, nothing, piece, silence
from validator_node.blobs.awaited import BODY_DEADLINE_S, TICK_S, AwaitedBodies, BodyCallbacks
from validator_node.blobs.queue import BODIES

HONEST = 20
OVER_S = 30.0
LINK_BYTES_PER_S = 1024 * 1024
HABITS = ("silent", "begins", "drips", "begins and drips")


class Play:
    """A node's awaited bodies, hostile and honest hotkeys."""

    def __init__(self, seed: int, hostile: int) -> None:
        self.random = random.Random(seed)
        self.world = World()
        self.sizes: dict[bytes, int] = {}
        """What hostile hotkeys announced."""
        self.bodies: dict[bytes, bytes] = {}
        self.kept: dict[bytes, bytes] = {}
        self.added: dict[bytes, float] = {}
        """When each honest body was announced, by its hash."""
        self.came: dict[bytes, float] = {}
        self.all_came = trio.Event()
        self.peers = Peers(validator=self._validator)
        self.hostile = [f"hostile {number}" for number in range(hostile)]
        for name in self.hostile:
            self.peers.serves[name] = self._habit(self.random.choice(HABITS))
        callbacks = BodyCallbacks(
            validators=lambda: ["validator"],
            has=lambda submission: submission.body_hash in self.kept,
            keep=self._keep,
            on_here=lambda _: None,
            on_refused=lambda _posted, _reason: None,
        )
        self.awaited = AwaitedBodies(self.peers.fetcher(), callbacks, trio.current_time)

    def _keep(self, digest: bytes, body: bytes) -> None:
        self.kept[digest] = body
        self.came[digest] = trio.current_time()
        if len(self.came) == HONEST:
            self.all_came.set()

    async def _validator(self, request: BlobRequest) -> BlobReply:
        return await nothing(request)

    def _habit(self, habit: str) -> Serve:
        async def serve(request: BlobRequest) -> BlobReply:
            size = self.sizes[request.digest]
            if habit == "silent" or (habit == "begins" and request.offset):
                return await silence(request)
            data = bytes(min(request.length, size - request.offset))
            if habit == "drips" or request.offset:
                await trio.sleep(len(data) / 80_000)
            return BlobReply(size=size, data=data)

        return serve

    async def _honest(self, request: BlobRequest) -> BlobReply:
        reply = piece(self.bodies[request.digest], request)
        await trio.sleep(0.05 + len(reply.data) / LINK_BYTES_PER_S)
        return reply

    def _announce(self, owner: str, digest: bytes, size: int) -> None:
        submission = self.world.submission(
            digest, hotkey=sha256(owner.encode()), body_size=size, body_hash=digest
        )
        signed = SignedSubmission(submission=submission, signature=bytes(64))
        if self.awaited.has_room_for([submission]):
            self.awaited.add(PostedSubmission(signed=signed, body=b""), b"", owner)

    async def attack(self, name: str) -> None:
        for number in range(100_000):
            digest = sha256(f"{name} {number}".encode())
            size = self.random.choice((5_000, 1_000_000, MAX_BODY_BYTES))
            self.sizes[digest] = size
            self._announce(name, digest, size)
            await trio.sleep(2.0)

    async def mine(self, number: int) -> None:
        name = f"honest {number % (HONEST // 2)}"
        self.peers.serves[name] = self._honest
        await trio.sleep(self.random.uniform(0, OVER_S))
        body = self.random.randbytes(self.random.choice((5_000, 300_000, 4 * 1024 * 1024)))
        digest = sha256(body)
        self.bodies[digest] = body
        self.added[digest] = trio.current_time()
        self._announce(name, digest, len(body))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.awaited.run)
            for name in self.hostile:
                nursery.start_soon(self.attack, name)
            await trio.sleep(TICK_S)
            for number in range(HONEST):
                nursery.start_soon(self.mine, number)
            with trio.move_on_after(OVER_S + BODY_DEADLINE_S):
                await self.all_came.wait()
            nursery.cancel_scope.cancel()

    def delays(self) -> list[float]:
        return [self.came[digest] - at for digest, at in self.added.items() if digest in self.came]


@pytest.mark.parametrize(("hostile", "seed"), [(0, 1), (4, 1), (4, 2), (16, 1), (64, 1)])
async def test_every_honest_body_comes(autojump_clock, hostile: int, seed: int) -> None:
    play = Play(seed, hostile)
    await play.run()
    delays = play.delays()
    assert len(delays) == HONEST, f"{HONEST - len(delays)} of {HONEST} honest bodies were lost"
    # The longest takes 6 s on its link; four quanta are the bound for the first turn among 64.
    assert max(delays) <= 6 + BODIES.quantum_s * (2 + hostile // BODIES.slots)
