r"""A challenge's storage: what a guest may read and write, and the digest of what it wrote.

Each challenge has a storage of its own in the replicated state. A guest reads the snapshot that its
submission's admission fixed; what it writes takes effect when its verdict settles.

Writes hash: 32 zero bytes for none, otherwise the SHA-256 of b"platform/writes/v1\0", then for each
write in the order of its key: length of the key (4 bytes, big endian), the key, length of the
value, the value.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from protocol.codec import ZERO_DIGEST, Record, sha256

WRITES_TAG = b"platform/writes/v1\x00"
MAX_KEY_BYTES = 64
MAX_VALUE_BYTES = 8 * 1024
MAX_WRITES = 64
MAX_WRITTEN_BYTES = 16 * 1024
"""Keys and values of one evaluation's writes; every validator's verdict carries them."""
MAX_STORED_ENTRIES = 1_024
MAX_STORED_BYTES = 256 * 1024
"""Keys and values that a challenge's storage holds at a time."""

StorageKey = Annotated[bytes, Meta(min_length=1, max_length=MAX_KEY_BYTES)]


class StorageEntry(Record):
    """What a storage holds under one key."""

    key: StorageKey
    value: Annotated[bytes, Meta(min_length=1, max_length=MAX_VALUE_BYTES)]


class StorageWrite(Record):
    """A key's next value; an empty one removes the key."""

    key: StorageKey
    value: Annotated[bytes, Meta(max_length=MAX_VALUE_BYTES)]


Writes = Annotated[tuple[StorageWrite, ...], Meta(max_length=MAX_WRITES)]
"""What one evaluation writes: keys in ascending order, each once."""


def writes_hash(writes: tuple[StorageWrite, ...]) -> bytes:
    """Return the digest of the writes that goes into the verdict."""
    if not writes:
        return ZERO_DIGEST
    parts = [WRITES_TAG]
    for write in writes:
        for part in (write.key, write.value):
            parts += [len(part).to_bytes(4, "big"), part]
    return sha256(*parts)


def are_well_formed(writes: tuple[StorageWrite, ...]) -> bool:
    """Return whether the keys ascend and everything together is within `MAX_WRITTEN_BYTES`."""
    size = sum(len(write.key) + len(write.value) for write in writes)
    ascend = all(left.key < right.key for left, right in pairwise(writes))
    return ascend and size <= MAX_WRITTEN_BYTES
