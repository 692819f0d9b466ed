"""Records that were put into the DHT, in LevelDB: they expire, and they are bounded.

Rules:
1. A record belongs to the group its key begins with (`/result/...` to `result`). Each group has its
   own bound of records and of bytes, so that a flood of one kind pushes out nothing of another; a
   group without a bound is refused.
2. A record expires `ttl_ms` after it was last put. What has expired is never returned, and `sweep`
   removes it, a bounded number at a time.
3. When a group is full, the record that expires soonest makes room. This node's own records go
   last: those are the ones it has promised to renew (`due`).
4. Writes are not synced: a lost record is put again by whoever owns it. Whether a value is *right*
   is not known here; whoever reads judges it again.
5. What lies where is remembered in memory, about 300 bytes a record, and read once at the start.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.codec import U64, Record, decode, encode
from protocol.errors import DecodeError
from storage.database import Column, Database, WriteBatch
from storage.errors import StorageError

HOUR_MS: Final = 3_600_000
TTL_MS: Final = 24 * HOUR_MS
REPUBLISH_MS: Final = 22 * HOUR_MS
SWEEP: Final = 256
"""Records that one call of `sweep` looks at, at most."""
_ENTRY_OVERHEAD: Final = 64
"""Bytes an entry takes beside key and value, counted against the bound."""


class RecordStoreError(StorageError):
    """A record that no bound allows: of a group without one, or larger than its whole group."""

    reason = "record_store"


@dataclass(frozen=True)
class GroupLimit:
    """How much one group may hold."""

    count: int
    size: int
    """Bytes of keys and values, and 64 a record."""


class StoredRecord(Record):
    """A record as it lies in the database."""

    value: bytes
    put_ms: U64
    expires_ms: U64
    own: bool


@dataclass(frozen=True)
class _Place:
    """What is remembered of a stored record."""

    expires_ms: int
    put_ms: int
    size: int
    own: bool

    @property
    def order(self) -> tuple[bool, int]:
        """What goes first when room is needed is smallest (rule 3)."""
        return self.own, self.expires_ms


@dataclass
class _Group:
    """The records of one group."""

    limit: GroupLimit
    places: dict[bytes, _Place] = field(default_factory=dict)
    size: int = 0
    first_out: list[tuple[bool, int, bytes]] = field(default_factory=list)
    """A heap of (own, expiry, key); an entry that differs from `places` is out of date."""

    def add(self, key: bytes, place: _Place) -> None:
        self.remove(key)
        self.places[key] = place
        self.size += place.size
        heapq.heappush(self.first_out, (*place.order, key))
        if len(self.first_out) > 2 * len(self.places) + 64:
            self.first_out = [(*p.order, k) for k, p in self.places.items()]
            heapq.heapify(self.first_out)

    def remove(self, key: bytes) -> None:
        place = self.places.pop(key, None)
        if place is not None:
            self.size -= place.size

    def first(self) -> tuple[bytes, _Place] | None:
        """Return the record that goes first, or None; forgets what is out of date."""
        while self.first_out:
            own, expires_ms, key = self.first_out[0]
            place = self.places.get(key)
            if place is not None and place.order == (own, expires_ms):
                return key, place
            heapq.heappop(self.first_out)
        return None

    def is_over(self) -> bool:
        return len(self.places) > self.limit.count or self.size > self.limit.size


class RecordStore:
    """The kept records of a database.

    `counts` tells, by reason, what went otherwise than by its owner's wish: `evicted`, `expired`,
    `damaged` (unreadable, dropped), `unbounded` (found at the start, of a group without a bound).
    """

    def __init__(
        self,
        database: Database,
        limits: Mapping[str, GroupLimit],
        now_ms: Callable[[], int],
        *,
        ttl_ms: int = TTL_MS,
    ) -> None:
        self._database = database
        self._now_ms = now_ms
        self._ttl_ms = ttl_ms
        self._groups = {name: _Group(limit) for name, limit in limits.items()}
        self.counts: Counter[str] = Counter()
        self._load()

    def __len__(self) -> int:
        return sum(len(group.places) for group in self._groups.values())

    @property
    def size(self) -> int:
        """Bytes of all records, as the bounds count them."""
        return sum(group.size for group in self._groups.values())

    def put(self, key: str, value: bytes, *, own: bool = False) -> None:
        """Keep `value` under `key` from now on, instead of what was there.

        A record that is this node's own stays so when others put it as well. Raises
        `RecordStoreError` for a record that no bound allows, and the errors of `Database.write`.
        """
        name = key.encode()
        group = self._groups.get(_group_of(key))
        size = len(name) + len(value) + _ENTRY_OVERHEAD
        if group is None or size > group.limit.size or group.limit.count < 1:
            raise RecordStoreError(f"{key}: a record of {size} bytes is beyond every bound")
        known = group.places.get(name)
        if known is not None and known.own and not own:
            # Others' puts must not put off the day on which this node renews its record.
            put_ms, own = known.put_ms, True
        else:
            put_ms = self._now_ms()
        place = _Place(self._now_ms() + self._ttl_ms, put_ms, size, own)
        entry = StoredRecord(value=value, put_ms=put_ms, expires_ms=place.expires_ms, own=own)
        batch = WriteBatch()
        batch.put(Column.RECORDS, name, encode(entry))
        group.add(name, place)
        self._make_room(group, batch)
        self._database.write(batch, sync=False)

    def get(self, key: str) -> bytes | None:
        """Return the value kept under `key`, or None if there is none or it has expired."""
        name = key.encode()
        group = self._groups.get(_group_of(key))
        place = group.places.get(name) if group is not None else None
        if place is None:
            return None
        if place.expires_ms <= self._now_ms():
            self._drop(key, "expired")
            return None
        data = self._database.get(Column.RECORDS, name)
        entry = None if data is None else _read(data)
        if entry is None:
            self._drop(key, "damaged")
            return None
        return entry.value

    def delete(self, key: str) -> None:
        """Remove a record; one not there is no error."""
        group = self._groups.get(_group_of(key))
        if group is None or key.encode() not in group.places:
            return
        group.remove(key.encode())
        batch = WriteBatch()
        batch.delete(Column.RECORDS, key.encode())
        self._database.write(batch, sync=False)

    def due(self, republish_ms: int = REPUBLISH_MS) -> list[str]:
        """Return the keys of own records that were last put by this node so long ago."""
        before = self._now_ms() - republish_ms
        return [
            key.decode()
            for group in self._groups.values()
            for key, place in group.places.items()
            if place.own and place.put_ms <= before
        ]

    def sweep(self, limit: int = SWEEP) -> int:
        """Remove at most `limit` expired records and return how many; call again for more."""
        now = self._now_ms()
        expired = [
            (group, key)
            for group in self._groups.values()
            for key, place in group.places.items()
            if place.expires_ms <= now
        ][:limit]
        batch = WriteBatch()
        for group, key in expired:
            group.remove(key)
            batch.delete(Column.RECORDS, key)
        if expired:
            self._database.write(batch, sync=False)
        self.counts["expired"] += len(expired)
        return len(expired)

    def _drop(self, key: str, reason: str) -> None:
        self.counts[reason] += 1
        self.delete(key)

    def _make_room(self, group: _Group, batch: WriteBatch) -> None:
        """Remove what goes first: the newcomer itself, where all others are this node's own."""
        while group.is_over():
            found = group.first()
            assert found is not None, "a group over its bound holds records"
            group.remove(found[0])
            batch.delete(Column.RECORDS, found[0])
            self.counts["evicted"] += 1

    def _load(self) -> None:
        """Read what is there, and remove what has expired, is damaged or is beyond a bound."""
        now = self._now_ms()
        batch = WriteBatch()
        for name, data in self._database.iterate(Column.RECORDS):
            entry = _read(data)
            group = self._groups.get(_group_of(name.decode(errors="replace")))
            reason = (
                "damaged"
                if entry is None
                else "unbounded"
                if group is None
                else "expired"
                if entry.expires_ms <= now
                else None
            )
            if reason is not None or entry is None or group is None:
                self.counts[reason or "damaged"] += 1
                batch.delete(Column.RECORDS, name)
                continue
            # A clock that was set back must not make a record live longer than a new one.
            expires_ms = min(entry.expires_ms, now + self._ttl_ms)
            size = len(name) + len(entry.value) + _ENTRY_OVERHEAD
            group.add(name, _Place(expires_ms, min(entry.put_ms, now), size, entry.own))
            self._make_room(group, batch)
        if len(batch):
            self._database.write(batch, sync=False)


def _group_of(key: str) -> str:
    return key.split("/", 2)[1] if key.startswith("/") else ""


def _read(data: bytes) -> StoredRecord | None:
    try:
        return decode(StoredRecord, data)
    except DecodeError:
        return None
