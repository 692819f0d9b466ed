from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import decode, encode, sha256
from protocol.records.blob import MAX_CHUNK_BYTES, NOT_NOW, BlobReply, BlobRequest
from storage.errors import BlobDamagedError
from validator_node.blobs.service import (
    MAX_BLOB_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    REQUEST_COST_BYTES,
    BlobLimits,
    BlobService,
)

KIB = 1024
u32 = st.integers(0, 0xFFFF_FFFF)


class Site:
    """A service with a clock that the test sets, and a count of what is read from the source."""

    def __init__(self, *blobs: bytes, **limits: float) -> None:
        self.time = 0.0
        self.blobs = {sha256(blob): blob for blob in blobs}
        self.reads = 0
        self.service = BlobService(
            [self._read],
            limits=BlobLimits(**limits),  # type: ignore[arg-type]
            is_trusted=lambda peer_id: peer_id.startswith("validator"),
            now=lambda: self.time,
        )

    def _read(self, digest: bytes) -> bytes | None:
        self.reads += 1
        return self.blobs.get(digest)

    def ask(self, blob: bytes, offset: int, length: int, peer_id: str = "peer") -> BlobReply:
        request = BlobRequest(digest=sha256(blob), offset=offset, length=length)
        assert len(encode(request)) <= MAX_REQUEST_BYTES
        reply = self.service.reply(peer_id, request)
        assert len(encode(reply)) <= MAX_BLOB_REPLY_BYTES
        return reply

    def drain(self, blob: bytes, peer_id: str) -> int:
        """Ask until the budget is used up; return the bytes that came."""
        total = 0
        while (reply := self.ask(blob, 0, MAX_CHUNK_BYTES, peer_id)).size != NOT_NOW:
            total += len(reply.data)
        return total


@given(st.binary(min_size=1, max_size=300), u32, u32)
def test_any_range_is_the_part_of_it_that_there_is(blob: bytes, offset: int, length: int):
    reply = Site(blob).ask(blob, offset, length)
    assert reply == BlobReply(size=len(blob), data=blob[offset : offset + length])


@given(st.binary(max_size=100))
def test_any_bytes_are_answered(data: bytes):
    reply = trio.run(Site(b"a blob").service._on_request, "peer", data)
    assert decode(BlobReply, reply) == BlobReply(size=0, data=b"")


def test_a_piece_is_bounded_and_a_large_blob_is_read_once():
    blob = bytes(range(256)) * (4 * KIB)
    site = Site(blob)
    came = b""
    while len(came) < len(blob):
        reply = site.ask(blob, len(came), 0xFFFF_FFFF)
        assert (reply.size, len(reply.data)) == (len(blob), MAX_CHUNK_BYTES)
        came += reply.data
    assert came == blob
    assert site.reads == 1
    assert site.service.held_bytes == 0  # its last byte has been asked for
    assert site.service.served_bytes == len(blob)


def test_what_is_held_is_bounded():
    blobs = [bytes([number]) * (300 * KIB) for number in range(8)]
    site = Site(*blobs, held_bytes=700 * KIB)
    for blob in blobs:
        assert site.ask(blob, 0, 1).data == blob[:1]
        assert site.service.held_bytes <= 700 * KIB
    assert site.service.held_bytes == 600 * KIB


def test_sources_are_asked_in_turn_and_a_damaged_one_is_passed_over():
    blob = b"a module"

    def damaged(_: bytes) -> bytes:
        raise BlobDamagedError("damaged on disk")

    service = BlobService([lambda _: None, damaged, {sha256(blob): blob}.get], now=lambda: 0.0)
    request = BlobRequest(digest=sha256(blob), offset=0, length=100)
    assert service.reply("peer", request) == BlobReply(size=8, data=blob)
    unknown = BlobRequest(digest=sha256(b"other"), offset=0, length=100)
    assert service.reply("peer", unknown) == BlobReply(size=0, data=b"")
    assert service.answered == {"served": 1, "damaged": 2, "unknown": 1}


def test_each_peer_has_its_budget_of_bytes():
    blob = bytes(100 * KIB)
    site = Site(blob, peer_bytes_per_s=256 * KIB)
    first = site.drain(blob, "greedy")
    # 1 MiB is saved up; each request costs 4 KiB besides what it brings.
    assert first == 9 * 100 * KIB
    assert site.ask(blob, 0, MAX_CHUNK_BYTES, "modest").data == blob
    site.time = 2.0
    assert site.drain(blob, "greedy") == 5 * 100 * KIB
    assert site.service.answered["not_now"] == 2


def test_asking_for_what_is_not_there_costs_as_well():
    site = Site(peer_bytes_per_s=10 * REQUEST_COST_BYTES)
    answers = [site.ask(b"nothing", 0, 1).size for _ in range(60)]
    assert answers == [0] * 40 + [NOT_NOW] * 20
    assert site.reads == 40


def test_reading_a_large_blob_anew_costs_a_part_of_its_size():
    large = [bytes([number]) * (400 * KIB) for number in range(40)]
    site = Site(*large, peer_bytes_per_s=250 * KIB, held_bytes=400 * KIB)
    answers = [site.ask(blob, 0, 1).size for blob in large]
    # Each read takes 100 KiB and each request 4 KiB of the 1,000 KiB that were saved up.
    assert answers.index(NOT_NOW) == 9
    assert site.reads <= 10


def test_many_strangers_share_a_budget_and_validators_do_not():
    blob = bytes(100 * KIB)
    site = Site(blob, peer_bytes_per_s=256 * KIB, strangers_bytes_per_s=512 * KIB)
    total = sum(site.drain(blob, f"stranger {number}") for number in range(20))
    assert total < 4 * 512 * KIB
    assert site.drain(blob, "validator 1") == 9 * 100 * KIB


@pytest.mark.parametrize("size", [0, 1, 5])
def test_an_offset_beyond_the_end_brings_nothing(size: int):
    blob = b"x" * 5
    assert Site(blob).ask(blob, 5 + size, 10) == BlobReply(size=5, data=b"")
