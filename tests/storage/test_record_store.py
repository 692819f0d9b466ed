"""Kept records expire, stay within their bounds, survive a restart, and are renewed in time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Column, Database, WriteBatch
from storage.record_store import HOUR_MS, GroupLimit, RecordStore, RecordStoreError

LIMITS = {"blob": GroupLimit(count=3, size=10_000), "node": GroupLimit(count=100, size=1_000)}


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> RecordStore:
    return RecordStore(database, LIMITS, clock)


def rows(database: Database) -> dict[bytes, bytes]:
    return dict(database.iterate(Column.RECORDS))


def test_a_record_is_returned_until_it_expires(
    store: RecordStore, clock: Clock, database: Database
) -> None:
    store.put("/blob/a", b"one")
    clock.ms += 24 * HOUR_MS - 1
    assert store.get("/blob/a") == b"one"
    clock.ms += 1
    assert store.get("/blob/a") is None
    assert rows(database) == {}
    assert store.counts["expired"] == 1
    assert (len(store), store.size) == (0, 0)


def test_a_put_renews_the_time_to_live(store: RecordStore, clock: Clock) -> None:
    store.put("/blob/a", b"one")
    clock.ms += 20 * HOUR_MS
    store.put("/blob/a", b"one")
    clock.ms += 20 * HOUR_MS
    assert store.get("/blob/a") == b"one"


def test_a_sweep_removes_a_bounded_number(
    store: RecordStore, clock: Clock, database: Database
) -> None:
    for name in ("/blob/a", "/blob/b", "/node/c"):
        store.put(name, b"x")
    clock.ms += 25 * HOUR_MS
    store.put("/node/d", b"x")
    assert [store.sweep(2), store.sweep(2), store.sweep(2)] == [2, 1, 0]
    assert list(rows(database)) == [b"/node/d"]


def test_records_survive_a_restart_but_not_their_expiry(tmp_path: Path, clock: Clock) -> None:
    with Database.open(tmp_path / "db", create=True) as database:
        store = RecordStore(database, LIMITS, clock)
        store.put("/blob/a", b"one", own=True)
        clock.ms += HOUR_MS
        store.put("/blob/b", b"two")
    clock.ms += 23 * HOUR_MS
    with Database.open(tmp_path / "db", create=True) as database:
        store = RecordStore(database, LIMITS, clock)
        assert (store.get("/blob/a"), store.get("/blob/b")) == (None, b"two")
        assert store.counts["expired"] == 1


def test_a_clock_set_back_makes_no_record_immortal(tmp_path: Path, clock: Clock) -> None:
    with Database.open(tmp_path / "db", create=True) as database:
        RecordStore(database, LIMITS, clock).put("/blob/a", b"one")
        clock.ms -= 500_000
        store = RecordStore(database, LIMITS, clock)
        clock.ms += 24 * HOUR_MS
        assert store.get("/blob/a") is None


def test_the_soonest_to_expire_makes_room(
    store: RecordStore, clock: Clock, database: Database
) -> None:
    for name in ("/blob/a", "/blob/b", "/blob/c", "/blob/a", "/blob/d"):
        clock.ms += 1
        store.put(name, b"x")
    assert list(rows(database)) == [b"/blob/a", b"/blob/c", b"/blob/d"]
    assert store.counts["evicted"] == 1


def test_own_records_go_last(store: RecordStore, clock: Clock, database: Database) -> None:
    store.put("/blob/a", b"x", own=True)
    for name in ("/blob/b", "/blob/c", "/blob/d", "/blob/e"):
        clock.ms += 1
        store.put(name, b"x")
    assert list(rows(database)) == [b"/blob/a", b"/blob/d", b"/blob/e"]
    for name in ("/blob/f", "/blob/g"):
        store.put(name, b"x", own=True)
    store.put("/blob/h", b"x")
    assert list(rows(database)) == [b"/blob/a", b"/blob/f", b"/blob/g"]
    assert store.get("/blob/h") is None


def test_a_flood_of_one_group_leaves_the_others_alone(store: RecordStore) -> None:
    store.put("/node/a", b"x")
    for number in range(1_000):
        store.put(f"/blob/{number}", b"x" * 100)
    assert store.get("/node/a") == b"x"
    assert len(store) == 4


@pytest.mark.parametrize(
    ("key", "size"), [("/other/a", 1), ("plain", 1), ("/blob/a", 10_000), ("", 1)]
)
def test_what_no_bound_allows_is_refused(store: RecordStore, key: str, size: int) -> None:
    with pytest.raises(RecordStoreError, match="beyond every bound"):
        store.put(key, bytes(size))
    assert len(store) == 0
    assert store.get(key) is None


def test_own_records_are_due_for_renewal_after_22_hours(store: RecordStore, clock: Clock) -> None:
    store.put("/blob/a", b"x", own=True)
    store.put("/blob/b", b"x")
    clock.ms += 21 * HOUR_MS
    store.put("/blob/a", b"x")  # somebody else's put does not put off our own
    assert store.due() == []
    clock.ms += HOUR_MS
    assert store.due() == ["/blob/a"]
    store.put("/blob/a", b"x", own=True)
    assert store.due() == []


def test_damaged_and_foreign_rows_are_dropped(database: Database, clock: Clock) -> None:
    store = RecordStore(database, LIMITS, clock)
    store.put("/blob/a", b"one")
    batch = WriteBatch()
    batch.put(Column.RECORDS, b"/blob/a", b"\xff\xff")
    batch.put(Column.RECORDS, b"\xff\x00", b"junk")
    batch.put(Column.RECORDS, b"/other/a", rows(database)[b"/blob/a"])
    database.write(batch)
    assert store.get("/blob/a") is None
    again = RecordStore(database, LIMITS, clock)
    assert rows(database) == {}
    assert (store.counts["damaged"], again.counts["damaged"]) == (1, 1)
    assert again.counts["unbounded"] == 1


operations = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 4_000), st.booleans(), st.integers(0, 9 * HOUR_MS)),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(operations)
def test_whatever_is_put_the_bounds_hold(
    tmp_path: Path, steps: list[tuple[int, int, bool, int]]
) -> None:
    clock = Clock()
    with Database.open(tmp_path / f"db{random.getrandbits(64)}", create=True) as database:
        store = RecordStore(database, LIMITS, clock)
        for name, size, own, later in steps:
            store.put(f"/blob/{name}", bytes(size), own=own)
            assert len(store) <= 3
            assert store.size <= 10_000
            clock.ms += later
            held = {key.decode(): data for key, data in rows(database).items()}
            assert len(held) == len(store)
        kept = {f"/blob/{name}": store.get(f"/blob/{name}") for name in range(9)}
        again = RecordStore(database, LIMITS, clock)
        assert {f"/blob/{name}": again.get(f"/blob/{name}") for name in range(9)} == kept
