"""Blobs between real hosts on loopback: the largest, a holder that dies, strangers' requests."""

from __future__ import annotations

import hashlib
import tracemalloc

import trio

from protocol.codec import decode, encode, sha256
from protocol.records.blob import MAX_CHUNK_BYTES, BlobReply
from protocol.records.submission import MAX_BODY_BYTES
from tests.validator_node.network.support import nodes
from validator_node.blobs.fetcher import BlobFetcher, over
from validator_node.blobs.service import BLOB_PROTOCOL, MAX_BLOB_REPLY_BYTES, BlobService

DEADLINE_S = 60.0
SEVERAL_PIECES = 32 * MAX_CHUNK_BYTES


def noise(size: int) -> bytes:
    """Bytes that do not compress; the same every time."""
    return hashlib.shake_256(b"a blob").digest(size)


async def test_the_largest_blob_takes_its_size_on_each_side_and_little_more() -> None:
    blob = noise(MAX_BODY_BYTES)
    digest = sha256(blob)
    async with nodes(2) as (client, server):
        # The source makes a copy of its own, as reading from a disk does.
        BlobService([lambda _: blob[:-1] + blob[-1:]]).serve(server)
        fetcher = BlobFetcher(over(client))
        tracemalloc.start()
        try:
            started, _ = tracemalloc.get_traced_memory()
            content = await fetcher.fetch(
                digest,
                size=None,
                holders=[server.peer_id],
                max_bytes=MAX_BODY_BYTES,
                deadline_s=DEADLINE_S,
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert content == blob
    # One copy at the server, one growing at the client (by steps of an eighth, moved each time).
    assert peak - started < 2.5 * MAX_BODY_BYTES


async def test_with_a_holder_dead_the_rest_comes_from_another() -> None:
    blob = noise(SEVERAL_PIECES)
    digest = sha256(blob)
    async with nodes(3) as (client, first, second):
        services = [BlobService([{digest: blob}.get]) for _ in range(2)]
        for service, node in zip(services, (first, second), strict=True):
            service.serve(node)
        direct = over(client)
        asked = 0

        async def ask(peer_id: str, request: bytes, deadline_s: float) -> bytes:
            nonlocal asked
            asked += 1
            if asked == 5:  # the first holder is lost for good in the middle of it
                first._host.remove_stream_handler(BLOB_PROTOCOL)
            return await direct(peer_id, request, deadline_s)

        fetcher = BlobFetcher(ask)
        content = await fetcher.fetch(
            digest,
            size=len(blob),
            holders=[first.peer_id, second.peer_id],
            max_bytes=len(blob),
            deadline_s=DEADLINE_S,
        )
    assert content == blob
    assert [service.served_bytes // MAX_CHUNK_BYTES for service in services] == [4, 28]


async def test_anybody_may_ask_and_nonsense_is_answered() -> None:
    async with nodes(2) as (client, server):
        service = BlobService([{sha256(b"a body"): b"a body"}.get])
        service.serve(server)
        with trio.fail_after(DEADLINE_S):
            replies = [
                await client.request(
                    server.peer_id,
                    BLOB_PROTOCOL,
                    request,
                    deadline_s=5,
                    max_reply_bytes=MAX_BLOB_REPLY_BYTES,
                )
                for request in (
                    encode([sha256(b"a body"), 2, 100]),
                    encode([sha256(b"other"), 0, 100]),
                    sha256(b"a body"),
                    b"",
                )
            ]
    unknown = BlobReply(size=0, data=b"")
    assert [decode(BlobReply, reply) for reply in replies] == [
        BlobReply(size=6, data=b"body"),
        unknown,
        unknown,
        unknown,
    ]
    assert service.answered == {"served": 1, "unknown": 1, "malformed": 2}
