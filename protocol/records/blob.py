"""Blobs: how content is asked for by its hash, a piece at a time.

A blob is any content named by its SHA-256: a submission's body, a module, a piece of a snapshot.
One request asks for one range of it. The reply tells the size of the whole, so that the asker knows
when it is done; only the hash over the whole proves anything.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U32, Digest, Record

MAX_CHUNK_BYTES = 262_144
"""The longest piece of a blob in one reply."""
NOT_NOW = 0xFFFF_FFFF
"""The size in a reply that says nothing of the blob: the asker's budget is used up for now."""


class BlobRequest(Record):
    """Asks for `length` bytes of a blob from `offset` on."""

    digest: Digest
    offset: U32
    length: U32
    """The answer may be shorter, and is never longer than this and `MAX_CHUNK_BYTES`."""


class BlobReply(Record):
    """A piece of a blob."""

    size: U32
    """Bytes of the whole blob; 0 if it is not known here; `NOT_NOW` to be asked again later."""
    data: Annotated[bytes, Meta(max_length=MAX_CHUNK_BYTES)]
    """The bytes from the asked offset on; empty with a size of 0 or `NOT_NOW`."""
