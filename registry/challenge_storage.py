"""The challenges' storages in the replicated state: versions of keys, by the slot that wrote them.

Rules:
1. A submission's snapshot is the storage before the slot that admitted it: per key the newest
   version written in an earlier slot. It is the same for every validator whenever it looks, as long
   as the submission is pending.
2. The writes of a settled submission become versions of the slot that settled it. Of two that
   settle in one slot the later wins. An empty value removes the key.
3. What makes a storage larger than `MAX_STORED_ENTRIES` or `MAX_STORED_BYTES` is refused whole and
   named; its result counts all the same.
4. What would make the rows of all its versions larger than `MAX_VERSION_BYTES` is refused whole as
   well: who writes much in every slot waits until old versions are dropped.
5. A pending submission was admitted less than `dispute_after` slots ago, so a version is dropped
   that many slots after a newer one was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from protocol.codec import U32, Record
from protocol.records.challenge_storage import (
    MAX_STORED_BYTES,
    MAX_STORED_ENTRIES,
    StorageEntry,
    StorageWrite,
)
from protocol.view import View
from registry import keys
from registry.access import read, write

MAX_VERSION_BYTES = 4 * MAX_STORED_BYTES
"""State keys and values of all versions of one challenge's storage."""

_SEQ_BYTES = 8


class Held(Record):
    """How much a challenge's storage holds: its newest values, removed keys not counted."""

    entries: U32
    size: U32
    """Bytes of keys and values."""
    rows: U32
    """Bytes of the state's keys and values of all versions, old ones and removals too."""


def snapshot(view: View, challenge_id: str, admitted_seq: int) -> tuple[StorageEntry, ...]:
    """Return what a submission admitted in slot `admitted_seq` reads, by key (rule 1)."""
    versions = _versions(view, keys.storage_prefix(challenge_id))
    values = {key: value for key, seq, value in versions if seq < admitted_seq}  # newer ones last
    return tuple(
        StorageEntry(key=key, value=value) for key, value in sorted(values.items()) if value
    )


def apply(
    view: View, challenge_id: str, seq: int, writes: tuple[StorageWrite, ...], dispute_after: int
) -> str | None:
    """Write in slot `seq`; return why nothing was written, or None (rules 2 to 4)."""
    held_key = keys.STORED_SIZE + challenge_id.encode()
    held = read(view, Held, held_key) or Held(entries=0, size=0, rows=0)
    entries, size, rows = held.entries, held.size, held.rows
    for item in writes:
        before = _newest(view, challenge_id, item.key)
        entries += bool(item.value) - bool(before)
        size += _size(item.key, item.value) - _size(item.key, before)
        row = keys.storage_key(challenge_id, item.key) + keys.u64(seq)
        replaced = view.get(row)
        rows += len(row) + len(item.value) - (0 if replaced is None else len(row) + len(replaced))
    if entries > MAX_STORED_ENTRIES or size > MAX_STORED_BYTES:
        return "storage_full"
    if rows > MAX_VERSION_BYTES:
        return "storage_busy"
    write(view, held_key, Held(entries=entries, size=size, rows=rows))
    for item in writes:
        view.put(keys.storage_key(challenge_id, item.key) + keys.u64(seq), item.value)
        stale = keys.STALE + keys.u64(seq + dispute_after) + challenge_id.encode() + b"/"
        view.put(stale + item.key, b"")
    return None


def drop_stale(view: View, seq: int, dispute_after: int) -> None:
    """Drop in slot `seq` the versions that no pending submission can read any more (rule 5)."""
    due = []
    dropped: Counter[bytes] = Counter()
    for row, _ in view.items(keys.STALE):
        if row[len(keys.STALE) :][:_SEQ_BYTES] > keys.u64(seq):
            break
        due.append(row)
    for row in due:
        view.delete(row)
        challenge_id, key = row[len(keys.STALE) + _SEQ_BYTES :].split(b"/", 1)
        prefix = keys.storage_key(challenge_id.decode(), key)
        dropped[challenge_id] += _drop_versions(view, prefix, seq - dispute_after)
    for challenge_id, size in sorted(dropped.items()):
        held = read(view, Held, keys.STORED_SIZE + challenge_id)
        if held is not None and size:
            left = msgspec.structs.replace(held, rows=held.rows - size)
            write(view, keys.STORED_SIZE + challenge_id, left)


def _drop_versions(view: View, prefix: bytes, readable: int) -> int:
    """Keep of one key the newest version up to slot `readable`, unless it is a removal.

    Return how many bytes went.
    """
    old, size = [], 0
    for row, value in view.items(prefix):
        if int.from_bytes(row[-_SEQ_BYTES:], "big") <= readable:
            old.append((row, value))
    for row, value in old:
        if row != old[-1][0] or not value:
            view.delete(row)
            size += len(row) + len(value)
    return size


def _versions(view: View, prefix: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield (key, seq, value), a key's versions in the order they were written."""
    for row, value in view.items(prefix):
        rest = row[len(prefix) :]
        yield rest[1 : 1 + rest[0]], int.from_bytes(rest[-_SEQ_BYTES:], "big"), value


def _newest(view: View, challenge_id: str, key: bytes) -> bytes:
    """Return a key's value now; empty if there is none."""
    value = b""
    for _, newer in view.items(keys.storage_key(challenge_id, key)):
        value = newer
    return value


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) if value else 0
