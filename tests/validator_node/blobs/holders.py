"""Holders of blobs for the tests of the fetcher: they serve, lie, stall and vanish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from protocol.codec import decode, encode, sha256
from protocol.records.blob import MAX_CHUNK_BYTES, BlobReply, BlobRequest
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.network.errors import DeadlineExceededError, PeerUnreachableError

CHUNK = MAX_CHUNK_BYTES
BLOB = b"".join(bytes([number]) * CHUNK for number in range(1, 6)) + b"the end"
DIGEST = sha256(BLOB)

Serve = Callable[[BlobRequest], Awaitable[BlobReply]]


def piece(blob: bytes, request: BlobRequest) -> BlobReply:
    """What an honest holder replies."""
    end = request.offset + min(request.length, CHUNK)
    return BlobReply(size=len(blob), data=blob[request.offset : end])


def honest(blob: bytes = BLOB) -> Serve:
    async def serve(request: BlobRequest) -> BlobReply:
        return piece(blob, request)

    return serve


async def nothing(_: BlobRequest) -> BlobReply:
    return BlobReply(size=0, data=b"")


async def silence(_: BlobRequest) -> BlobReply:
    await trio.sleep_forever()
    raise AssertionError


async def gone(_: BlobRequest) -> BlobReply:
    raise PeerUnreachableError("no connection")


def first(count: int, then: Serve, blob: bytes = BLOB) -> Serve:
    """Serve `count` pieces, then do something else."""
    served = 0

    async def serve(request: BlobRequest) -> BlobReply:
        nonlocal served
        served += 1
        return piece(blob, request) if served <= count else await then(request)

    return serve


def dripping(size: int, bytes_per_s: float = 80_000.0) -> Serve:
    """Send zeros just fast enough to be kept, as a blob of `size` bytes."""

    async def serve(request: BlobRequest) -> BlobReply:
        length = min(request.length, CHUNK, size - request.offset)
        await trio.sleep(length / bytes_per_s)
        return BlobReply(size=size, data=bytes(length))

    return serve


class Peers:
    """The holders of a test, and what the fetcher asked and reported."""

    def __init__(self, **serves: Serve) -> None:
        self.serves = serves
        self.asked: list[tuple[str, int]] = []
        self.lied: list[str] = []
        self.open = self.most_open = 0

    async def ask(self, peer_id: str, data: bytes, deadline_s: float) -> bytes:
        request = decode(BlobRequest, data)
        self.asked.append((peer_id, request.offset))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with trio.move_on_after(deadline_s):
                return encode(await self.serves[peer_id](request))
        finally:
            self.open -= 1
        raise DeadlineExceededError(f"{peer_id} did not answer")

    def fetcher(self, **limits: int) -> BlobFetcher:
        return BlobFetcher(self.ask, on_lie=self.lied.append, **limits)

    async def fetch(self, fetcher: BlobFetcher | None = None, **changes) -> bytes:
        options = {
            "size": len(BLOB),
            "holders": list(self.serves),
            "max_bytes": len(BLOB),
            "deadline_s": 300.0,
        }
        digest = changes.pop("digest", DIGEST)
        return await (fetcher or self.fetcher()).fetch(digest, **{**options, **changes})

    def asked_of(self, peer_id: str) -> list[int]:
        return [offset for name, offset in self.asked if name == peer_id]


ALL = [number * CHUNK for number in range(6)]
"""The offsets of the pieces of `BLOB`."""
OTHER = bytes(len(BLOB))
