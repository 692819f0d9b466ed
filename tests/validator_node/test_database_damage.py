"""Each damage to each kind of file, before each command: one line, one advice that works."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import plyvel
import pytest

from storage.database import Column, Database, Meta
from tests.validator_node.databases import Node, silent
from validator_node import database_check, database_repair
from validator_node.cli.exit_codes import ExitCode
from validator_node.database_repair import RepairFailedError
from validator_node.store import Store

cli = import_module("validator_node.cli.main")  # the package has a function of this name

LOOKING = (
    ("evidence",),
    ("checkpoint",),
    ("metagraph",),
    ("weights", "show"),
    ("weights", "explain", "1"),
    ("audit", "verify"),
    ("audit", "show"),
    ("db", "inspect"),
    ("db", "verify"),
)
"""Commands that change nothing, whatever they find."""
WRITING = (("db", "compact"), ("db", "rollback", "--to", "2"))

Damage = Callable[[Path], object]


def missing(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.write_bytes(b"something else entirely\n" * 40)


def swapped(path: Path) -> None:
    other = next((o for o in sorted(path.parent.glob("*" + path.suffix)) if o != path), None)
    if other is not None:
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Damage, ...] = (missing, emptied, truncated, flipped, foreign, swapped, a_folder)
FILES = ("CURRENT", "MANIFEST-*", "*.ldb", "*.log", "LOCK", "LOG")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with several tables, a snapshot and a log; each test damages a copy of it."""
    node = Node(tmp_path_factory.mktemp("whole"))
    for _ in range(3):
        node.fill(2)  # each opening makes a table of what the last one wrote
    store = node.open()
    node.snapshot(store)
    node.settle(store)
    store.close()
    return node


@pytest.fixture
def node(whole: Node, tmp_path: Path) -> Node:
    shutil.copytree(whole.folder, tmp_path / "node")
    copied = Node.__new__(Node)
    copied.__dict__.update(whole.__dict__)
    copied.folder, copied.state_dir = tmp_path / "node", tmp_path / "node" / "state"
    copied.config()
    return copied


def run(node: Node, *words: str) -> tuple[int, str]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.run_command([*words, "--config", str(node.folder / "node.toml")])
    return code, out.getvalue() + err.getvalue()


def content_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


QUICK = {("CURRENT", missing), ("*.ldb", emptied), ("*.ldb", missing), ("MANIFEST-*", flipped)}
EACH = [
    pytest.param(
        pattern,
        damage,
        id=f"{pattern}-{damage.__name__}",
        marks=[] if (pattern, damage) in QUICK else [pytest.mark.slow],
    )
    for pattern in FILES
    for damage in DAMAGES
]


@pytest.mark.parametrize(("pattern", "damage"), EACH)
def test_no_damage_leads_to_more(node: Node, pattern: str, damage: Damage):
    damage(sorted(node.db.glob(pattern))[0])
    before = content_of(node.state_dir)
    advised = False
    for words in LOOKING:
        code, text = run(node, *words)
        assert code != ExitCode.FAULT, (words, text)
        assert "Traceback" not in text
        assert content_of(node.state_dir) == before, words
        if code in (ExitCode.DAMAGED, ExitCode.NO) and "db" in text:
            advised |= "`validator-node db repair`" in text
            assert set(re.findall(r"validator-node db (\w+)", text)) <= {"repair"}, text
        else:
            assert code in (ExitCode.DONE, ExitCode.NO, ExitCode.CONFIG), (words, text)
    if advised:
        repaired(node)
    else:
        code, text = run(node, "db", "verify")
        assert code == ExitCode.DONE, text
    for words in WRITING:
        code, text = run(node, *words)
        assert code in (ExitCode.DONE, ExitCode.NO), (words, text)  # a new one cannot go back


def repaired(node: Node) -> None:
    """Follow the advice: it mends, or says that the node must sync again and changes nothing."""
    before = content_of(node.state_dir)
    code, text = run(node, "db", "repair")
    if code == ExitCode.DONE:
        assert run(node, "db", "verify")[0] == ExitCode.DONE
        with Store.open(node.db, node.world.genesis).database as database:
            assert database.get(Column.META, Meta.NETWORK) is not None
        return
    assert "move the folder `db` away" in text, text
    assert content_of(node.state_dir) == before
    node.db.rename(node.state_dir / "moved")
    Store.open(node.db, node.world.genesis, create=True).close()
    assert run(node, "db", "verify")[0] == ExitCode.DONE


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITING, ids=lambda words: words[1])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("pattern", FILES[:4])
def test_commands_that_change_name_repair(
    node: Node, pattern: str, damage: Damage, command: tuple[str, ...]
):
    damage(sorted(node.db.glob(pattern))[0])
    code, text = run(node, *command)
    assert code in (ExitCode.DONE, ExitCode.DAMAGED, ExitCode.NO), text
    if code == ExitCode.DAMAGED:
        assert "`validator-node db repair`" in text


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_at_a_whole_database_changes_nothing(node: Node, command: tuple[str, ...]):
    (node.state_dir / "snapshots" / "unfinished-1").mkdir()
    before = content_of(node.state_dir)
    code, text = run(node, *command)
    assert code in (ExitCode.DONE, ExitCode.NO, ExitCode.CONFIG), text
    assert content_of(node.state_dir) == before
    assert (node.state_dir / "snapshots" / "unfinished-1").is_dir()


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_where_nothing_is_makes_nothing(node: Node, command: tuple[str, ...]):
    shutil.rmtree(node.state_dir)
    code, text = run(node, *command)
    assert code == ExitCode.CONFIG, text
    assert "does not exist" in text
    assert not node.state_dir.exists()


@pytest.mark.parametrize("command", [*LOOKING, *WRITING, ("db", "repair")], ids=" ".join)
def test_a_running_node_is_named(node: Node, command: tuple[str, ...]):
    with Database.open(node.db):
        code, text = run(node, *command)
    assert code == ExitCode.BUSY
    assert re.search(r"open in process \d+", text)


# --- repair --------------------------------------------------------------------------------------


def test_a_lost_slot_is_gone_back_behind(node: Node):
    node.change(Column.LEDGER, (5).to_bytes(8), None)
    node.change(Column.STATE_VALUES, b"nonsense", b"value")
    done = database_repair.repair(node.state_dir, node.world.genesis, silent)
    assert done.executed_again
    assert done.height == 14  # the snapshot lies behind the gap
    checked = database_check.verify(node.state_dir, node.world.genesis, silent)
    assert checked.slots == 14 - 5  # the log begins behind the gap


def test_a_state_that_does_not_hold_is_executed_again(node: Node):
    node.change(Column.STATE_VALUES, b"nonsense", b"value")
    shutil.rmtree(node.state_dir / "snapshots")
    done = database_repair.repair(node.state_dir, node.world.genesis, silent)
    assert (done.executed_again, done.height) == (True, 14)
    assert database_check.verify(node.state_dir, node.world.genesis, silent).slots == 14
    with Store.open(node.db, node.world.genesis).database as database:
        assert database.get(Column.STATE_VALUES, b"nonsense") is None


def test_a_lost_network_is_proven_by_the_certificates(node: Node):
    node.change(Column.META, Meta.NETWORK.value, None)
    assert "db repair" in run(node, "db", "inspect")[1]
    done = database_repair.repair(node.state_dir, node.world.genesis, silent)
    assert done.height == 14


def test_what_nothing_mends_stays_as_it_was(node: Node):
    shutil.rmtree(node.state_dir / "snapshots")
    node.change(Column.LEDGER, (1).to_bytes(8), None)
    before = content_of(node.state_dir)
    with pytest.raises(RepairFailedError, match=r"Nothing was changed.*move the folder `db` away"):
        database_repair.repair(node.state_dir, node.world.genesis, silent)
    assert content_of(node.state_dir) == before


def test_an_old_value_does_not_come_back(tmp_path: Path):
    """LevelDB's repair puts tables into one level, where a higher file hides a newer value."""
    path = tmp_path / "db"
    database = plyvel.DB(str(path), create_if_missing=True)
    database.put(b"Okey", b"old")
    database.close()
    database = plyvel.DB(str(path))
    database.put(b"Okey", b"new")
    database.close()
    plyvel.DB(str(path)).close()
    older, newer = sorted(path.glob("*.ldb"))
    older.rename(path / "000900.ldb")
    assert newer.exists()
    plyvel.repair_db(str(path))
    hidden = plyvel.DB(str(path))
    assert hidden.get(b"Okey") == b"old"
    hidden.compact_range(start=b"\x00", stop=b"\xff")
    assert hidden.get(b"Okey") == b"new"
    hidden.close()
