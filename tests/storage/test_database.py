"""The LevelDB wrapper: columns, batches, schema, locks and damage."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import plyvel
import pytest

from storage.database import Column, Database, OpenBatch, WriteBatch
from storage.errors import (
    BatchError,
    DatabaseClosedError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseMissingError,
    SchemaError,
)

ROOT = Path(__file__).parents[2]


def write(database: Database, *pairs: tuple[bytes, bytes], column: Column = Column.LOCAL) -> None:
    batch = WriteBatch()
    for key, value in pairs:
        batch.put(column, key, value)
    database.write(batch)


def test_columns_do_not_see_each_other(database: Database):
    write(database, (b"key", b"local"))
    write(database, (b"key", b"blob"), column=Column.BLOBS)
    assert database.get(Column.LOCAL, b"key") == b"local"
    assert database.get(Column.BLOBS, b"key") == b"blob"
    assert database.get(Column.AUDIT, b"key") is None
    assert list(database.iterate(Column.LOCAL)) == [(b"key", b"local")]


def test_column_bytes_are_distinct_and_single():
    values = [column.value for column in Column]
    assert len(set(values)) == len(Column)
    assert all(len(value) == 1 for value in values)


def test_iteration_is_by_prefix_in_key_order_and_of_the_moment(database: Database):
    write(database, *[(key, key) for key in (b"b/2", b"a/1", b"b/1", b"b\xff", b"c", b"b")])
    rows = database.iterate(Column.LOCAL, b"b")
    write(database, (b"b/3", b"later"))
    assert [key for key, _ in rows] == [b"b", b"b/1", b"b/2", b"b\xff"]
    write(database, (b"\xff\xff", b"top"))
    assert list(database.iterate(Column.LOCAL, b"\xff")) == [(b"\xff\xff", b"top")]


def test_a_batch_counts_only_once_written(database: Database):
    write(database, (b"old", b"1"), (b"kept", b"1"))
    batch = WriteBatch()
    batch.put(Column.LOCAL, b"new", b"2")
    batch.delete(Column.LOCAL, b"old")
    assert database.get(Column.LOCAL, b"new") is None
    assert database.get(Column.LOCAL, b"new", batch=batch) == b"2"
    assert database.get(Column.LOCAL, b"old", batch=batch) is None
    expected = [(b"kept", b"1"), (b"new", b"2")]
    assert list(database.iterate(Column.LOCAL, batch=batch)) == expected
    database.write(batch, sync=False)
    assert list(database.iterate(Column.LOCAL)) == expected


def test_the_last_change_of_a_key_counts(database: Database):
    batch = WriteBatch()
    batch.delete(Column.LOCAL, b"key")
    batch.put(Column.LOCAL, b"key", b"1")
    batch.put(Column.LOCAL, b"key", b"2")
    database.write(batch)
    assert database.get(Column.LOCAL, b"key") == b"2"


def test_a_batch_is_used_once(database: Database):
    batch = WriteBatch()
    database.write(batch)
    for use in (batch.discard, lambda: database.write(batch)):
        with pytest.raises(BatchError, match="already written"):
            use()
    discarded = WriteBatch()
    discarded.discard()
    with pytest.raises(BatchError, match="already discarded"):
        discarded.put(Column.LOCAL, b"key", b"1")


def test_one_open_batch_at_a_time(database: Database):
    part, first, second = OpenBatch(), WriteBatch(), WriteBatch()
    part.join(first)
    part.join(first)
    with pytest.raises(BatchError, match="neither written nor discarded"):
        part.join(second)
    database.write(first)
    part.join(second)
    assert part.current() is second


def test_contents_survive_reopening(tmp_path: Path):
    with Database.open(tmp_path / "db", create=True) as database:
        write(database, (b"key", b"value"))
    with Database.open(tmp_path / "db") as database:
        assert database.get(Column.LOCAL, b"key") == b"value"


def test_use_after_close(tmp_path: Path):
    database = Database.open(tmp_path / "db", create=True)
    write(database, (b"a", b"1"), (b"b", b"1"))
    rows = database.iterate(Column.LOCAL)
    next(rows)
    database.close()
    database.close()
    with pytest.raises(DatabaseClosedError):
        database.get(Column.LOCAL, b"key")
    with pytest.raises(DatabaseClosedError):
        next(rows)


def test_a_missing_database_is_not_created_unasked(tmp_path: Path):
    with pytest.raises(DatabaseMissingError, match="does not exist"):
        Database.open(tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "db").write_text("not a folder")
    with pytest.raises(DatabaseError, match="db"):
        Database.open(tmp_path / "db", create=True)


def test_a_second_process_is_told_what_to_do(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from storage.database import Database\n"
        "d = Database.open(Path(sys.argv[1]), create=True)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "blockchain"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(
            DatabaseLockedError, match=rf"blockchain: open in process {other.pid} .*stop the other"
        ):
            Database.open(path, create=True)
        assert other.stdin is not None
        other.stdin.close()
    Database.open(path, create=True).close()


def test_the_schema_is_checked(tmp_path: Path):
    Database.open(tmp_path / "db", create=True).close()
    raw = plyvel.DB(str(tmp_path / "db"))
    raw.put(b"Mschema", b"999")
    raw.close()
    with pytest.raises(SchemaError, match=r"schema 999, this node reads schema 2.*newer"):
        Database.open(tmp_path / "db", create=True)
    # The refused open released the lock.
    with pytest.raises(SchemaError):
        Database.open(tmp_path / "db", create=True)


def test_a_foreign_database_is_refused(tmp_path: Path):
    raw = plyvel.DB(str(tmp_path / "db"), create_if_missing=True)
    raw.put(b"something", b"else")
    raw.close()
    with pytest.raises(SchemaError, match="no schema version"):
        Database.open(tmp_path / "db", create=True)


def test_damage_is_reported(tmp_path: Path):
    with Database.open(tmp_path / "db", create=True) as database:
        write(database, *[(b"%05d" % i, b"value %d" % i * 20) for i in range(2000)])
    with Database.open(tmp_path / "db", create=True):
        pass  # moves the log into a table
    for table in (tmp_path / "db").glob("*.ldb"):
        data = bytearray(table.read_bytes())
        for place in range(100, len(data) // 2, 1000):
            data[place] ^= 0xFF
        table.write_bytes(data)
    with pytest.raises(DatabaseDamagedError, match="db"), Database.open(tmp_path / "db") as opened:
        list(opened.iterate(Column.LOCAL))


def test_damage_inside_the_log_is_not_skipped(tmp_path: Path):
    """By default LevelDB drops such batches silently and keeps later ones."""
    with Database.open(tmp_path / "db", create=True) as database:
        for number in range(50):
            write(database, (b"%d" % number, b"value"))
    [log] = (tmp_path / "db").glob("*.log")
    data = bytearray(log.read_bytes())
    data[data.index(b"value", len(data) // 2)] ^= 0xFF  # not in a length: that would be a torn end
    log.write_bytes(data)
    with pytest.raises(DatabaseDamagedError, match="keep the journal"):
        Database.open(tmp_path / "db", create=True)


@pytest.mark.parametrize("lost", [1, 5, 100, 1000])
def test_a_torn_log_loses_whole_batches_only(tmp_path: Path, lost: int):
    """A crash while LevelDB wrote: each batch is there whole or not at all, in order."""
    with Database.open(tmp_path / "db", create=True) as database:
        for number in range(50):
            write(database, (b"a", b"%d" % number), (b"b", b"%d" % number))
    [log] = (tmp_path / "db").glob("*.log")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - lost)
    with Database.open(tmp_path / "db", create=True) as database:
        last = database.get(Column.LOCAL, b"a")
        assert last is not None
        assert last == database.get(Column.LOCAL, b"b")
        assert int(last) < 49


def test_iteration_from_a_key_on(database: Database):
    write(database, *[(key, key) for key in (b"a", b"b/1", b"b/2", b"b/3", b"c")])
    batch = WriteBatch()
    batch.put(Column.LOCAL, b"b/25", b"new")
    batch.put(Column.LOCAL, b"b/0", b"new")
    batch.delete(Column.LOCAL, b"b/3")

    def keys(prefix: bytes, start: bytes, batch: WriteBatch | None = None) -> list[bytes]:
        found = database.iterate(Column.LOCAL, prefix, start=start, batch=batch)
        return [key for key, _ in found]

    assert keys(b"b/", b"b/2") == [b"b/2", b"b/3"]
    assert keys(b"b/", b"b/2", batch) == [b"b/2", b"b/25"]
    assert keys(b"b/", b"a") == [b"b/1", b"b/2", b"b/3"]
    assert keys(b"b/", b"c") == []
    assert keys(b"", b"b/3") == [b"b/3", b"c"]


def test_a_frozen_version_does_not_change(database: Database):
    write(database, (b"a", b"1"), (b"b", b"1"))
    frozen = database.freeze()
    write(database, (b"a", b"2"), (b"c", b"2"))
    assert frozen.get(Column.LOCAL, b"a") == b"1"
    assert frozen.get(Column.LOCAL, b"c") is None
    assert list(frozen.iterate(Column.LOCAL)) == [(b"a", b"1"), (b"b", b"1")]
    assert list(frozen.iterate(Column.LOCAL, b"b")) == [(b"b", b"1")]
    frozen.close()
    frozen.close()
    with pytest.raises(DatabaseClosedError, match="frozen"):
        frozen.get(Column.LOCAL, b"a")
    assert database.get(Column.LOCAL, b"a") == b"2"


def test_closing_while_a_thread_reads_a_frozen_version(tmp_path: Path):
    database = Database.open(tmp_path / "db", create=True)
    write(database, *[(b"%06d" % i, b"value" * 100) for i in range(20_000)])
    frozen = database.freeze()
    begun, ended = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def read() -> None:
        try:
            while True:
                for _ in frozen.iterate(Column.LOCAL):
                    begun.set()
        except DatabaseClosedError as error:
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(20)
    database.close()
    assert ended.wait(20)
    thread.join()
    assert len(errors) == 1


def test_a_frozen_version_is_read_while_the_node_writes(database: Database):
    rows = [(b"%04d" % number, b"old") for number in range(2000)]
    write(database, *rows)
    seen: list[list[tuple[bytes, bytes]]] = []
    with database.freeze() as frozen:
        thread = threading.Thread(target=lambda: seen.append(list(frozen.iterate(Column.LOCAL))))
        thread.start()
        for number in range(200):
            write(database, (b"%04d" % number, b"new"), (b"x%d" % number, b"new"))
        thread.join(20)
    assert seen == [rows]


def test_compacting_gives_space_back(tmp_path: Path):
    def size() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "db").iterdir())

    for length in (100_000, 0):  # each opening makes a table of what the last one wrote
        with Database.open(tmp_path / "db", create=True) as database:
            write(database, *[(b"%d" % number, os.urandom(length)) for number in range(20)])
    with Database.open(tmp_path / "db", create=True) as database:
        before = size()
        database.compact()
        assert len(list(database.iterate(Column.LOCAL))) == 20
    Database.open(tmp_path / "db", create=True).close()
    assert before > 2_000_000
    assert size() < 100_000


def test_repair_saves_what_can_be_read(tmp_path: Path):
    rows = [(b"%05d" % i, b"value %d" % i * 20) for i in range(2000)]
    with Database.open(tmp_path / "db", create=True) as database:
        write(database, *rows)
    (tmp_path / "db" / "CURRENT").write_text("damaged")
    with pytest.raises(DatabaseError, match="db"):
        Database.open(tmp_path / "db", create=True)
    Database.repair(tmp_path / "db")
    with Database.open(tmp_path / "db") as database:
        assert list(database.iterate(Column.LOCAL)) == rows
    with pytest.raises(DatabaseMissingError):
        Database.repair(tmp_path / "none")


def test_a_full_disk_damages_nothing_that_was_written(tmp_path: Path):
    """Rule 8: without it the write after the failed one makes the log unreadable."""
    command = [sys.executable, "-m", "tests.storage.full_disk", str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    written, first, second = done.stdout.splitlines()
    assert "File too large" in first
    assert "an earlier write failed" in second
    with Database.open(tmp_path / "db", create=True) as database:
        assert len(list(database.iterate(Column.LOCAL))) == int(written)
