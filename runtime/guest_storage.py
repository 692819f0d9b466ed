r"""What one evaluation may read and write: data blobs, the storage snapshot, buffered writes.

Rules:
1. Reads see the snapshot that came with the job, which consensus fixed when the submission was
   admitted; never the evaluation's own writes.
2. Writes are buffered. They count only when the outcome is `ok`, and take effect only when
   consensus applies them. The last write of a key counts; an empty value removes the key.
3. A guest names keys of its own challenge. Outside they stand behind the challenge's prefix, its id
   and a slash, which no id contains: no guest reaches another's keys.
4. Bounds: `MAX_KEY_BYTES` a key, `MAX_VALUE_BYTES` a value, `MAX_WRITES` keys and
   `MAX_WRITTEN_BYTES` of keys and values an evaluation. More is `host_limit`.

Writes hash: 32 zero bytes for none, otherwise the SHA-256 of b"platform/writes/v1\0", then for each
write in the order of its full key: length of the key (4 bytes, big endian), the key, length of the
value, the value.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocol.codec import ZERO_DIGEST, sha256

WRITES_TAG = b"platform/writes/v1\x00"
MAX_KEY_BYTES = 64
MAX_VALUE_BYTES = 16 * 1024
MAX_WRITES = 64
MAX_WRITTEN_BYTES = 64 * 1024

Writes = tuple[tuple[bytes, bytes], ...]
"""Full keys and values, sorted by key."""


class GuestStorage:
    """The storage of one evaluation."""

    def __init__(
        self,
        challenge_id: str,
        data: Mapping[bytes, bytes] | None = None,
        snapshot: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Take the data blobs by name and the challenge's own snapshot, keys without prefix."""
        self.data: Mapping[bytes, bytes] = data or {}
        self.snapshot: Mapping[bytes, bytes] = snapshot or {}
        self._prefix = prefix(challenge_id)
        self._written: dict[bytes, bytes] = {}
        self._written_bytes = 0

    def refusal(self, key_bytes: int, value_bytes: int) -> str | None:
        """Return which bound of rule 4 a write of these lengths breaks by itself, or None."""
        if not 1 <= key_bytes <= MAX_KEY_BYTES:
            return f"a storage key of {key_bytes} bytes, 1 to {MAX_KEY_BYTES} are allowed"
        if value_bytes > MAX_VALUE_BYTES:
            return f"a storage value of {value_bytes} bytes, the limit is {MAX_VALUE_BYTES}"
        return None

    def put(self, key: bytes, value: bytes) -> str | None:
        """Buffer a write; return which bound of rule 4 it breaks together with the others."""
        before = self._written.get(key)
        change = len(value) - len(before) if before is not None else len(key) + len(value)
        if before is None and len(self._written) >= MAX_WRITES:
            return f"more than {MAX_WRITES} storage keys written"
        if self._written_bytes + change > MAX_WRITTEN_BYTES:
            return f"more than {MAX_WRITTEN_BYTES} storage bytes written"
        self._written_bytes += change
        self._written[key] = value
        return None

    def writes(self) -> Writes:
        """Return what was written, under full keys."""
        return tuple(sorted((self._prefix + key, value) for key, value in self._written.items()))


def prefix(challenge_id: str) -> bytes:
    """Return what a challenge's keys begin with (rule 3)."""
    return challenge_id.encode() + b"/"


def writes_hash(writes: Writes) -> bytes:
    """Return the digest of the writes that goes into the verdict."""
    if not writes:
        return ZERO_DIGEST
    parts = [WRITES_TAG]
    for pair in writes:
        for part in pair:
            parts += [len(part).to_bytes(4, "big"), part]
    return sha256(*parts)
