from __future__ import annotations

import pytest

from protocol.codec import decode, encode
from protocol.errors import DecodeError
from protocol.records.blob import MAX_CHUNK_BYTES, NOT_NOW, BlobReply, BlobRequest


def test_the_largest_records_fit_their_frames() -> None:
    request = BlobRequest(digest=bytes(32), offset=0xFFFF_FFFF, length=0xFFFF_FFFF)
    reply = BlobReply(size=NOT_NOW, data=bytes(MAX_CHUNK_BYTES))
    assert len(encode(request)) == 45
    assert len(encode(reply)) == MAX_CHUNK_BYTES + 11
    assert decode(BlobRequest, encode(request)) == request
    assert decode(BlobReply, encode(reply)) == reply


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (BlobRequest, BlobRequest(digest=bytes(31), offset=0, length=1)),
        (BlobRequest, BlobRequest(digest=bytes(32), offset=-1, length=1)),
        (BlobRequest, BlobRequest(digest=bytes(32), offset=2**32, length=1)),
        (BlobReply, BlobReply(size=2**32, data=b"")),
        (BlobReply, BlobReply(size=1, data=bytes(MAX_CHUNK_BYTES + 1))),
    ],
    ids=["short digest", "negative offset", "long offset", "long size", "long piece"],
)
def test_what_is_out_of_bounds_cannot_be_read(kind: type, value: object) -> None:
    with pytest.raises(DecodeError):
        decode(kind, encode(value))
