"""Migrations: an old database becomes a new one, whatever interrupts it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import plyvel
import pytest

from protocol.codec import encode, sha256
from storage import migrations
from storage.database import Column, Database, Pair, WriteBatch
from storage.errors import DatabaseError, SchemaError
from storage.ledger import Ledger, LedgerEntry, LedgerTip
from storage.migrations import SCHEMA_VERSION
from storage.retention import Aged, Floors, Retention

TIP = 12
BODIES = [b"body %d" % number for number in range(5)]
PROOFS = {sha256(b"%d" % number): number + 2 for number in range(7)}
"""Submission id -> the slot that its proof was taken at."""


def write_version_1(path: Path, *, first: int = 1, tip: int = TIP) -> None:
    """Write what a node of schema 1 has written: keys and values as they were then."""
    raw = plyvel.DB(str(path), create_if_missing=True)
    raw.put(b"Mschema", b"1")
    raw.put(b"Mnetwork-id", bytes(32))
    raw.put(b"Mledger-tip", encode(LedgerTip(seq=tip, digest=sha256(b"%d" % tip))))
    for seq in range(first, tip + 1):
        digest = sha256(b"%d" % seq)
        entry = LedgerEntry(seq=seq, digest=digest, body=b"body", certificate=b"certificate")
        raw.put(b"L" + seq.to_bytes(8), encode(entry))
        raw.put(b"D" + digest, seq.to_bytes(8))
        raw.put(b"T" + seq.to_bytes(8), bytes(32))
    for submission_id, seq in PROOFS.items():
        raw.put(b"P" + submission_id, msgspec.msgpack.encode([seq, [[], None]]))
    for body in BODIES:
        raw.put(b"B" + sha256(body), body)
    raw.close()


def rows(path: Path) -> list[Pair]:
    raw = plyvel.DB(str(path))
    found = list(raw.iterator())
    raw.close()
    return found


class Failing(Database):
    """A database in which the power goes off after so many writes."""

    left = 0

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        if type(self).left == 0:
            raise DatabaseError("the power is off")
        type(self).left -= 1
        super().write(batch, sync=sync)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_version_1(tmp_path / "db")
    return tmp_path / "db"


def check(path: Path) -> None:
    with Database.open(path) as database:
        assert database.get(Column.META, b"schema") == str(SCHEMA_VERSION).encode()
        assert database.get(Column.META, b"migration") is None
        assert database.get(Column.META, b"network-id") == bytes(32)
        ledger = Ledger(database)
        retention = Retention(database, ledger)
        assert (ledger.first(), ledger.tip()) == (1, (TIP, sha256(b"%d" % TIP)))
        for submission_id, seq in PROOFS.items():
            assert retention.slot_of(Aged.PROOF, submission_id) == seq
        for body in BODIES:
            assert retention.slot_of(Aged.BODY, sha256(body)) == TIP
            assert database.get(Column.BLOBS, sha256(body)) == body
        assert len(list(database.iterate(Column.AGES))) == 2 * (len(BODIES) + len(PROOFS))


def test_a_version_1_database_is_migrated(path: Path):
    before = {key: value for key, value in rows(path) if key != b"Mschema"}
    check(path)
    after = dict(rows(path))
    assert {key: after[key] for key in before} == before
    check(path)


def test_what_was_migrated_is_dropped_by_age(path: Path):
    with Database.open(path, create=True) as database:
        retention, batch = Retention(database, Ledger(database)), WriteBatch()
        assert retention.step(batch, Floors(proofs=5, bodies=TIP)) == 9
        database.write(batch)
        kept = {key for key, _ in database.iterate(Column.PROOFS)}
        assert kept == {key for key, seq in PROOFS.items() if seq >= 5}
        assert len(list(database.iterate(Column.BLOBS))) == len(BODIES)


def test_a_crash_at_any_write_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(migrations, "_ROWS_A_BATCH", 2)
    whole = tmp_path / "whole"
    write_version_1(whole)
    check(whole)
    for survived in range(20):
        path = tmp_path / f"db-{survived}"
        write_version_1(path)
        Failing.left = survived
        try:
            Failing.open(path).close()
        except DatabaseError:
            found = dict(rows(path))
            assert found[b"Mschema"] == (b"1>2" if survived else b"1")
        else:
            assert survived > 5
            return
        check(path)
        assert rows(path) == rows(whole)
    raise AssertionError("the migration never came to its end")


def test_every_write_may_be_the_last_one_again_and_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(migrations, "_ROWS_A_BATCH", 2)
    for _ in range(20):
        Failing.left = 1
        try:
            Failing.open(path).close()
        except DatabaseError:
            continue
        break
    check(path)


def test_an_older_node_refuses_a_half_migrated_database(path: Path):
    Failing.left = 1
    with pytest.raises(DatabaseError, match="power"):
        Failing.open(path)
    # A node of schema 1 compares this with b"1".
    assert dict(rows(path))[b"Mschema"] == b"1>2"


@pytest.mark.parametrize("first", [1, 5, TIP])
def test_the_first_slot_held_is_found(tmp_path: Path, first: int):
    write_version_1(tmp_path / "db", first=first)
    with Database.open(tmp_path / "db", create=True) as database:
        assert Ledger(database).first() == first


def test_an_empty_ledger_holds_what_comes_next(tmp_path: Path):
    write_version_1(tmp_path / "db", first=1, tip=0)
    with Database.open(tmp_path / "db", create=True) as database:
        assert Ledger(database).first() == 1


@pytest.mark.parametrize("found", [b"3", b"2>3", b"1>3"])
def test_a_newer_database_is_refused_untouched(path: Path, found: bytes):
    raw = plyvel.DB(str(path))
    raw.put(b"Mschema", found)
    raw.close()
    before = rows(path)
    with pytest.raises(SchemaError, match="a newer node wrote it"):
        Database.open(path, create=True)
    assert rows(path) == before


@pytest.mark.parametrize("found", [b"", b"x", b"0", b"1>", b"1>2>3", b"-1", b"\xff"])
def test_an_unreadable_version_is_refused(path: Path, found: bytes):
    raw = plyvel.DB(str(path))
    raw.put(b"Mschema", found)
    raw.close()
    with pytest.raises(SchemaError, match="unreadable schema version"):
        Database.open(path, create=True)


@pytest.mark.parametrize("proof", [b"\x90", b"\xc0", b"\x91\xa1x"])
def test_a_record_of_another_form_stops_the_migration(path: Path, proof: bytes):
    raw = plyvel.DB(str(path))
    raw.put(b"P" + bytes(32), proof)
    raw.close()
    with pytest.raises(SchemaError, match="slot number"):
        Database.open(path, create=True)


def test_there_is_a_way_from_every_version():
    assert sorted(migrations.MIGRATIONS) == list(range(1, SCHEMA_VERSION))
