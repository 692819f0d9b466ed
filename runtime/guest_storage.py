"""What one evaluation may read and write: data blobs, the storage snapshot, buffered writes.

Rules:
1. Reads see the snapshot that came with the job, which consensus fixed when the submission was
   admitted; never the evaluation's own writes.
2. Writes are buffered. They count only when the outcome is `ok`, and take effect only when
   consensus applies them. The last write of a key counts; an empty value removes the key.
3. A guest names keys of its own challenge; the replicated state keeps each challenge's apart.
4. Bounds: those of `protocol.records.challenge_storage`, and of keys and values together what the
   policy's `storage_bytes` says. More is `host_limit`.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocol.records.challenge_storage import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITES,
    StorageWrite,
    Writes,
)


class GuestStorage:
    """The storage of one evaluation."""

    def __init__(
        self,
        storage_bytes: int = 0,
        data: Mapping[bytes, bytes] | None = None,
        snapshot: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Take the policy's `storage_bytes`, the data blobs by name and the snapshot."""
        self.data: Mapping[bytes, bytes] = data or {}
        self.snapshot: Mapping[bytes, bytes] = snapshot or {}
        self._storage_bytes = storage_bytes
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
        if self._written_bytes + change > self._storage_bytes:
            return f"more than {self._storage_bytes} storage bytes written"
        self._written_bytes += change
        self._written[key] = value
        return None

    def writes(self) -> Writes:
        """Return what was written, in the order of the keys."""
        return tuple(
            StorageWrite(key=key, value=value) for key, value in sorted(self._written.items())
        )
