"""The ledger: one digest a sequence, no gaps, and nothing before the batch is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codec import sha256
from storage.database import Column, Database, WriteBatch
from storage.errors import BatchError, LedgerError
from storage.ledger import MAX_ENTRY_BYTES, Ledger, LedgerEntry


def entry(seq: int) -> LedgerEntry:
    return LedgerEntry(
        seq=seq, digest=sha256(b"%d" % seq), body=b"body %d" % seq, certificate=b"cert %d" % seq
    )


def put(ledger: Ledger, batch: WriteBatch, entry: LedgerEntry) -> bool:
    return ledger.put(batch, entry.seq, entry.digest, entry.body, entry.certificate)


def filled(database: Database, last: int, first: int = 1) -> Ledger:
    ledger = Ledger(database)
    for seq in range(first, last + 1):
        batch = WriteBatch()
        assert put(ledger, batch, entry(seq))
        database.write(batch, sync=False)
    return ledger


def test_an_empty_ledger(database: Database):
    ledger = Ledger(database)
    assert ledger.tip() is None
    assert ledger.get(1) is None
    assert ledger.by_digest(bytes(32)) is None
    assert list(ledger.range(1, 10)) == []


def test_what_was_put_is_read(database: Database):
    ledger = filled(database, 300)
    assert ledger.tip() == (300, entry(300).digest)
    assert ledger.get(256) == entry(256)
    assert ledger.by_digest(entry(256).digest) == entry(256)
    assert list(ledger.range(254, 258)) == [entry(seq) for seq in range(254, 259)]
    assert list(ledger.range(299, 500)) == [entry(299), entry(300)]
    assert list(ledger.range(301, 302)) == []


def test_across_a_restart(tmp_path: Path):
    with Database.open(tmp_path / "db", create=True) as database:
        filled(database, 3)
    with Database.open(tmp_path / "db", create=True) as database:
        assert Ledger(database).tip() == (3, entry(3).digest)
        assert filled(database, 4, first=4).get(4) == entry(4)


def test_gaps_and_other_digests_are_refused(database: Database):
    ledger, batch = filled(database, 3), WriteBatch()
    with pytest.raises(LedgerError, match="sequence 5 leaves a gap, the next one is 4"):
        put(ledger, batch, entry(5))
    with pytest.raises(LedgerError, match="sequence 2 is decided as"):
        ledger.put(batch, 2, entry(9).digest, b"", b"")
    with pytest.raises(LedgerError, match="sequence 3 is decided as"):
        ledger.put(batch, 3, entry(9).digest, b"", b"")
    with pytest.raises(LedgerError, match="known under another sequence"):
        ledger.put(batch, 4, entry(2).digest, b"", b"")
    with pytest.raises(LedgerError, match="digest of 31 bytes"):
        ledger.put(batch, 4, bytes(31), b"", b"")
    with pytest.raises(LedgerError, match="the limit is"):
        ledger.put(batch, 4, entry(4).digest, bytes(MAX_ENTRY_BYTES), b"")
    assert len(batch) == 0


def test_the_same_again_changes_nothing(database: Database):
    ledger, batch = filled(database, 3), WriteBatch()
    assert not put(ledger, batch, entry(2))
    assert not ledger.put(batch, 3, entry(3).digest, b"other", b"another quorum")
    assert len(batch) == 0
    assert ledger.get(3) == entry(3)


def test_several_in_one_batch_and_discarding_it(database: Database):
    ledger, batch = filled(database, 2), WriteBatch()
    put(ledger, batch, entry(3))
    put(ledger, batch, entry(4))
    assert ledger.tip() == (4, entry(4).digest)
    assert ledger.get(3) == entry(3)
    with pytest.raises(BatchError):
        put(ledger, WriteBatch(), entry(5))
    batch.discard()
    assert ledger.tip() == (2, entry(2).digest)
    assert ledger.get(3) is None
    again = WriteBatch()
    put(ledger, again, entry(3))
    database.write(again)
    assert Ledger(database).tip() == (3, entry(3).digest)


def test_without_an_anchor_the_first_is_one(database: Database):
    for seq in (0, 2):
        with pytest.raises(LedgerError):
            put(Ledger(database), WriteBatch(), entry(seq))


def test_anchors(database: Database):
    ledger, batch = Ledger(database), WriteBatch()
    ledger.anchor(batch, 0, entry(0).digest)
    assert ledger.tip() == (0, entry(0).digest)
    assert ledger.first() == 1
    assert put(ledger, batch, entry(1))
    ledger.anchor(batch, 1, entry(1).digest)
    assert ledger.get(1) == entry(1)
    with pytest.raises(LedgerError, match="not above the tip 1"):
        ledger.anchor(batch, 1, entry(7).digest)
    ledger.anchor(batch, 100, entry(100).digest)
    database.write(batch)
    filled(database, 102, first=101)
    assert ledger.first() == 101
    for seq in (1, 50, 100):
        assert ledger.get(seq) is None
    with pytest.raises(LedgerError, match="below the first one held"):
        put(ledger, WriteBatch(), entry(50))
    assert list(ledger.range(1, 200)) == []
    assert list(ledger.range(101, 200)) == [entry(101), entry(102)]


def test_below_the_first_nothing_is_held(database: Database):
    ledger = filled(database, 10)
    assert ledger.first() == 1
    batch = WriteBatch()
    ledger.raise_first(batch, 4)
    assert (ledger.first(), ledger.get(3), ledger.get(4)) == (4, None, entry(4))
    assert ledger.by_digest(entry(3).digest) is None
    assert list(ledger.range(3, 5)) == []
    batch.discard()
    assert (ledger.first(), ledger.get(3)) == (1, entry(3))
    batch = WriteBatch()
    ledger.raise_first(batch, 10)
    ledger.raise_first(batch, 5)
    database.write(batch)
    assert (Ledger(database).first(), Ledger(database).get(10)) == (10, entry(10))
    with pytest.raises(LedgerError, match="below 11"):
        ledger.raise_first(WriteBatch(), 11)
    with pytest.raises(LedgerError, match="tip is None"):
        Ledger(Database.open(database.path.with_name("empty"), create=True)).raise_first(
            WriteBatch(), 1
        )


def test_unreadable_entries_are_reported(database: Database):
    ledger, batch = filled(database, 2), WriteBatch()
    moved = database.get(Column.LEDGER, (1).to_bytes(8))
    assert moved is not None
    batch.put(Column.LEDGER, (2).to_bytes(8), moved)
    batch.put(Column.LEDGER, (1).to_bytes(8), b"garbage")
    database.write(batch)
    with pytest.raises(LedgerError, match="sequence 1 is stored as 2"):
        ledger.get(2)
    with pytest.raises(LedgerError, match="sequence 1 is unreadable"):
        ledger.get(1)
