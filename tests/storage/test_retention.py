"""Retention: what is old goes in small steps, what is young stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import sha256
from storage.database import Column, Database, WriteBatch
from storage.ledger import Ledger
from storage.retention import (
    Aged,
    Floors,
    Retention,
    RetentionPolicy,
    Standing,
    floors,
)
from tests.storage.test_ledger import entry


class Place:
    """A database with a ledger up to `tip`, and what its node would write."""

    def __init__(self, database: Database, tip: int = 0) -> None:
        self.database = database
        self.ledger = Ledger(database)
        self.retention = Retention(database, self.ledger)
        for seq in range(1, tip + 1):
            batch = WriteBatch()
            found = entry(seq)
            self.ledger.put(batch, seq, found.digest, found.body, found.certificate)
            batch.put(Column.ROOTS, seq.to_bytes(8), bytes(32))
            database.write(batch, sync=False)

    def keep(self, kind: Aged, key: bytes, slot: int) -> None:
        batch = WriteBatch()
        batch.put(kind.column, key, b"content")
        self.retention.note(batch, kind, key, slot)
        self.database.write(batch, sync=False)

    def step(self, found: Floors) -> int:
        batch = WriteBatch()
        done = self.retention.step(batch, found)
        assert len(batch) <= done + 1  # the keys, and the mark of the first slot held
        self.database.write(batch, sync=False)
        return done

    def settle(self, found: Floors) -> int:
        """Step until nothing is left; return the number of steps that dropped something."""
        steps = 0
        while self.step(found):
            steps += 1
            assert steps < 1000
        return steps

    def keys(self, column: Column) -> list[bytes]:
        return [key for key, _ in self.database.iterate(column)]


@pytest.fixture
def place(database: Database) -> Place:
    return Place(database, tip=300)


def seqs(place: Place, column: Column) -> list[int]:
    return [int.from_bytes(key) for key in place.keys(column)]


def test_old_batches_go_in_small_steps(place: Place):
    found = Floors(ledger=201)
    assert place.step(found) == 255
    assert place.ledger.first() == 201
    assert seqs(place, Column.LEDGER) == list(range(86, 301))
    for seq in (1, 86, 200):
        assert place.ledger.get(seq) is None
        assert place.ledger.by_digest(entry(seq).digest) is None
    assert place.ledger.get(201) == entry(201)
    assert place.settle(found) == 2
    assert seqs(place, Column.LEDGER) == seqs(place, Column.ROOTS) == list(range(201, 301))
    assert len(place.keys(Column.LEDGER_DIGESTS)) == 100
    assert place.retention.dropped == {"batches": 200, "proofs": 0, "bodies": 0}
    assert place.step(found) == 0


def test_the_newest_batch_stays_and_a_floor_never_falls(place: Place):
    place.settle(Floors(ledger=1000))
    assert seqs(place, Column.LEDGER) == [300]
    place.settle(Floors(ledger=5))
    assert (place.ledger.first(), place.ledger.get(300)) == (300, entry(300))


def test_a_restart_in_the_middle_goes_on(place: Place):
    place.step(Floors(ledger=201))
    again = Place(place.database)
    # Without a floor to drop to, what lies below the first slot held still goes.
    again.settle(Floors())
    assert seqs(again, Column.LEDGER) == list(range(201, 301))


def test_what_an_anchor_left_behind_goes(place: Place):
    batch = WriteBatch()
    place.ledger.anchor(batch, 1000, entry(1000).digest)
    place.database.write(batch)
    place.settle(Floors())
    assert place.keys(Column.LEDGER) == place.keys(Column.LEDGER_DIGESTS) == []


def test_large_batches_are_read_a_few_at_a_time(database: Database):
    place = Place(database)
    for seq in range(1, 31):
        batch = WriteBatch()
        place.ledger.put(batch, seq, entry(seq).digest, bytes(512 * 1024), b"")
        database.write(batch, sync=False)
    assert place.step(Floors(ledger=30)) == 3 * 8
    place.settle(Floors(ledger=30))
    assert seqs(place, Column.LEDGER) == [30]


@pytest.mark.parametrize("kind", list(Aged))
def test_what_is_old_goes_and_what_is_young_stays(place: Place, kind: Aged):
    for slot in range(10, 20):
        place.keep(kind, sha256(b"%d" % slot), slot)
    batch = WriteBatch()
    batch.put(kind.column, b"never noted", b"")
    place.database.write(batch)
    found = Floors(bodies=15) if kind is Aged.BODY else Floors(proofs=15)
    place.settle(found)
    young = [sha256(b"%d" % slot) for slot in range(15, 20)]
    assert place.keys(kind.column) == sorted([*young, b"never noted"])
    assert [place.retention.slot_of(kind, key) for key in young] == [15, 16, 17, 18, 19]
    assert place.retention.slot_of(kind, sha256(b"10")) is None
    assert len(place.keys(Column.AGES)) == 2 * len(young)
    assert sum(place.retention.dropped.values()) == 5


def test_what_comes_again_is_young_again(place: Place):
    place.keep(Aged.BODY, b"a", 5)
    place.keep(Aged.BODY, b"a", 5)
    place.keep(Aged.BODY, b"a", 50)
    assert len(place.keys(Column.AGES)) == 2
    place.settle(Floors(bodies=50))
    assert place.keys(Column.BLOBS) == [b"a"]
    place.settle(Floors(bodies=51))
    assert place.keys(Column.BLOBS) == place.keys(Column.AGES) == []


def test_it_is_noted_and_dropped_in_one_unwritten_batch(place: Place):
    batch = WriteBatch()
    for slot in (3, 4):
        batch.put(Column.BLOBS, b"a", b"content")
        place.retention.note(batch, Aged.BODY, b"a", slot)
    assert place.retention.step(batch, Floors(bodies=4)) == 0
    assert place.retention.step(batch, Floors(bodies=5)) == 3
    assert place.retention.step(batch, Floors(bodies=5)) == 0
    place.database.write(batch)
    assert place.keys(Column.BLOBS) == place.keys(Column.AGES) == []


@settings(max_examples=40)
@given(
    notes=st.lists(st.tuples(st.sampled_from(Aged), st.integers(0, 9), st.integers(0, 30))),
    floor=st.integers(0, 31),
    step_keys=st.integers(3, 10),
)
def test_exactly_what_lies_below_the_floor_goes(
    tmp_path_factory: pytest.TempPathFactory,
    notes: list[tuple[Aged, int, int]],
    floor: int,
    step_keys: int,
):
    with Database.open(tmp_path_factory.mktemp("db"), create=True) as database:
        place = Place(database)
        place.retention = Retention(database, place.ledger, step_keys=step_keys)
        model: dict[tuple[Aged, bytes], int] = {}
        for kind, name, slot in notes:
            place.keep(kind, b"%d" % name, slot)
            model[kind, b"%d" % name] = slot
        place.settle(Floors(proofs=floor, bodies=floor))
        for kind in Aged:
            kept = sorted(key for (of, key), slot in model.items() if of is kind and slot >= floor)
            assert place.keys(kind.column) == kept


# --- the policy ----------------------------------------------------------------------------------


def standing(**changes: int) -> Standing:
    known = {"height": 10_000, "stable_seq": 9_900, "epoch": 20, "window": 4, "dispute_after": 100}
    return Standing(**{**known, **changes})


def edge_of(epoch: int) -> int | None:
    return 500 * (epoch + 1)


def test_batches_below_the_stable_checkpoint():
    policy = RetentionPolicy(ledger_slots=1000, body_epochs=0)
    assert floors(policy, standing(), edge_of) == Floors(ledger=8901, proofs=8897)
    assert floors(policy, standing(stable_seq=0), edge_of) == Floors()
    assert floors(policy, standing(stable_seq=999), edge_of) == Floors()
    # A stable checkpoint ahead of the own height, while the node catches up.
    assert floors(policy, standing(height=50), edge_of) == Floors()


def test_the_last_window_stays_whatever_the_policy():
    policy = RetentionPolicy(ledger_slots=1, body_epochs=0)
    found = floors(policy, standing(stable_seq=10_000), edge_of)
    assert found == Floors(ledger=9996, proofs=9992)


def test_bodies_go_by_epochs_but_not_while_a_submission_may_be_pending():
    policy = RetentionPolicy(ledger_slots=0, body_epochs=2)
    assert floors(policy, standing(), edge_of) == Floors(bodies=edge_of(17) + 1)
    assert floors(policy, standing(dispute_after=1500), edge_of) == Floors(bodies=8492)
    assert floors(policy, standing(epoch=2), edge_of) == Floors()
    assert floors(policy, standing(epoch=3), edge_of) == Floors(bodies=501)
    assert floors(policy, standing(), lambda _epoch: None) == Floors()


def test_proofs_follow_the_log_or_go_earlier():
    policy = RetentionPolicy(ledger_slots=9000, proof_epochs=5, body_epochs=0)
    assert floors(policy, standing(), edge_of).proofs == edge_of(14) + 1
    policy = RetentionPolicy(ledger_slots=100, proof_epochs=5, body_epochs=0)
    assert floors(policy, standing(), edge_of).proofs == 9801 - 4


def test_nothing_is_dropped_where_everything_is_kept():
    policy = RetentionPolicy(ledger_slots=0, proof_epochs=0, body_epochs=0)
    assert floors(policy, standing(), edge_of) == Floors()


def test_the_default_on_a_young_network(tmp_path: Path):
    with Database.open(tmp_path / "db", create=True) as database:
        place = Place(database, tip=10)
        found = floors(RetentionPolicy(), standing(height=10, stable_seq=8, epoch=1), edge_of)
        assert place.step(found) == 0
        assert place.ledger.first() == 1
