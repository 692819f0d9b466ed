"""Opening never begins a database by chance, and looking changes nothing."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from storage.database import Column, Database, WriteBatch
from storage.database_folder import Contents, contents, holder
from storage.errors import (
    DatabaseDamagedError,
    DatabaseDiskFullError,
    DatabaseError,
    DatabaseForbiddenError,
    DatabaseLockedError,
    DatabaseMissingError,
    DatabaseTooManyFilesError,
)
from storage.leveldb_errors import explained

ROOT = Path(__file__).parents[2]
ROWS = [(b"%05d" % number, os.urandom(40)) for number in range(500)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed database with rows in a table and rows in the log."""
    found = tmp_path / "db"
    for rows in (ROWS[:400], ROWS[400:]):
        with Database.open(found, create=True) as database:
            batch = WriteBatch()
            for key, value in rows:
                batch.put(Column.LOCAL, key, value)
            database.write(batch)
    return found


def content_of(path: Path) -> dict[str, tuple[bytes, int]]:
    return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in path.iterdir()}


def rows_of(database: Database) -> list[tuple[bytes, bytes]]:
    return list(database.iterate(Column.LOCAL))


@pytest.mark.parametrize("create", [False, True])
def test_a_folder_without_current_keeps_its_tables(path: Path, create: bool):
    (path / "CURRENT").unlink()
    before = content_of(path)
    with pytest.raises(DatabaseDamagedError, match=r"CURRENT is missing.*db repair"):
        Database.open(path, create=create)
    with pytest.raises(DatabaseDamagedError, match="db repair"), Database.look(path):
        pass
    assert content_of(path) == before
    Database.repair(path)
    with Database.open(path) as database:
        assert rows_of(database) == ROWS


@pytest.mark.parametrize("left", ["000005.ldb", "000005.sst", "000003.log", "MANIFEST-000002"])
def test_any_data_file_alone_is_damage(tmp_path: Path, left: str):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / left).write_bytes(b"remains")
    with pytest.raises(DatabaseDamagedError, match="CURRENT is missing"):
        Database.open(tmp_path / "db", create=True)
    assert [one.name for one in (tmp_path / "db").iterdir()] == [left]


def test_a_database_begins_only_where_nothing_is(tmp_path: Path):
    path = tmp_path / "deep" / "db"
    with pytest.raises(DatabaseMissingError):
        Database.open(path)
    assert not path.parent.exists()
    path.mkdir(parents=True)
    (path / "LOG").touch()
    (path / "LOCK").touch()
    assert contents(path) is Contents.VOID
    Database.open(path, create=True).close()
    Database.open(path).close()
    assert [one.name for one in path.parent.iterdir()] == ["db"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary").write_text("mine")
    with pytest.raises(DatabaseError, match="holds diary"):
        Database.open(tmp_path / "other", create=True)
    assert (tmp_path / "other" / "diary").read_text() == "mine"


def test_a_crash_while_beginning_leaves_no_half_of_a_database(tmp_path: Path):
    """Whatever stood aside when the process ended, the next beginning is whole."""
    aside = tmp_path / "db.begun"
    plyvel.DB(str(aside), create_if_missing=True).close()
    (aside / "CURRENT").unlink()
    with Database.open(tmp_path / "db", create=True) as database:
        assert rows_of(database) == []
    assert not aside.exists()


def test_looking_changes_no_file(path: Path):
    before = content_of(path)
    with Database.look(path) as database:
        assert rows_of(database) == ROWS
        batch = WriteBatch()
        batch.delete(Column.LOCAL, ROWS[0][0])
        database.write(batch)
        database.compact()
        assert content_of(path) == before
    assert content_of(path) == before
    with Database.open(path) as database:
        assert rows_of(database) == ROWS


def test_looking_where_nothing_is_makes_nothing(tmp_path: Path):
    with pytest.raises(DatabaseMissingError), Database.look(tmp_path / "db"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_looker_keeps_a_node_out_and_others_may_look(path: Path):
    program = (
        "import sys; from pathlib import Path; from storage.database import Database\n"
        "Database.open(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with Database.look(path), Database.look(path):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert "DatabaseLockedError" in done.stderr
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)


def test_a_database_that_is_open_is_not_looked_at_and_stays_locked(path: Path):
    """Closing a descriptor of LOCK would give up the lock of the database that is open."""
    with Database.open(path):
        for _ in range(2):
            with (
                pytest.raises(DatabaseLockedError, match=f"process {os.getpid()}"),
                Database.look(path),
            ):
                pass
            assert holder(path) == os.getpid()
        program = (
            "import sys; from pathlib import Path; from storage.database import Database\n"
            "with Database.look(Path(sys.argv[1])): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert f"open in process {os.getpid()}" in done.stderr
    assert holder(path) is None


def without_overriding() -> None:
    """Give up root's right to pass over permissions, for tests that run as root."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_folder_that_may_only_be_read(path: Path):
    program = (
        "import sys; from pathlib import Path; from storage.database import Database, Column\n"
        "path = Path(sys.argv[1])\n"
        "with Database.look(path) as found: print(len(list(found.iterate(Column.LOCAL))))\n"
        "Database.open(path)"
    )
    before = content_of(path)
    path.chmod(0o500)
    for file in path.iterdir():
        file.chmod(0o400)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=without_overriding,
    )
    path.chmod(0o700)
    assert done.stdout == f"{len(ROWS)}\n", done.stderr
    assert "DatabaseForbiddenError" in done.stderr
    assert "chown" in done.stderr
    assert content_of(path) == before


Damage = Callable[[Path], object]


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [Path.unlink, emptied, cut, a_folder])
@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.ldb"])
def test_each_damage_is_damage_and_names_repair(path: Path, pattern: str, damage: Damage):
    damage(next(iter(path.glob(pattern))))
    for opened in (Database.look, Database.open):
        with (
            pytest.raises(DatabaseDamagedError, match=rf"{path}.*validator-node db repair"),
            opened(path) as database,
        ):
            rows_of(database)


@pytest.mark.parametrize(
    ("words", "kind", "advice"),
    [
        ("IO error: {}/000007.log: No space left on device", DatabaseDiskFullError, "make room"),
        ("IO error: {}/000007.log: Too many open files", DatabaseTooManyFilesError, "ulimit"),
        ("IO error: {}/LOCK: Read-only file system", DatabaseForbiddenError, "read-only"),
        ("IO error: {}/000005.ldb: Input/output error", DatabaseDamagedError, "db repair"),
        ("IO error: lock {}/LOCK: Resource temporarily", DatabaseLockedError, "stop the other"),
    ],
)
def test_the_words_of_leveldb(words: str, kind: type[DatabaseError], advice: str):
    error = plyvel.IOError(words.format("/elsewhere").encode())
    found = explained(Path("/node/db"), error, Path("/elsewhere"))
    assert type(found) is kind
    assert advice in str(found)
    assert "/elsewhere" not in str(found)
