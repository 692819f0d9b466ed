"""Looking at, compacting and repairing the database of a stopped or crashed node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.database import Column, Database, WriteBatch
from storage.errors import DatabaseDamagedError, DatabaseLockedError, DatabaseMissingError
from tests.support import World
from tests.validator_node.databases import Node, silent
from validator_node import database_check, database_repair, database_rollback, database_tools
from validator_node.database_tools import DatabaseToolError
from validator_node.errors import GenesisMismatchError, NeverFilledError


def mended(node: Node) -> Path:
    return Path(database_repair.repair(node.state_dir, node.world.genesis, silent).kept)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.fill(3)
    return node


def test_where_a_node_stands(node: Node):
    store = node.open()
    manifest = node.snapshot(store)
    node.settle(store)
    store.mark_diverged(8)
    store.close()
    found = database_tools.inspect(node.state_dir, node.world.genesis, silent)
    assert (found.height, found.first_held, found.epoch, found.schema) == (8, 1, 0, "2")
    assert found.network_id == node.world.network_id.hex()
    assert (found.state_root, found.chain_hash) == (node.roots[8].hex(), node.hashes[8].hex())
    assert (found.stable_seq, found.diverged_at) == (6, 8)
    columns = {use.name: use for use in found.columns}
    assert (columns["ledger"].entries, columns["proofs"].entries) == (8, 4)
    assert columns["blobs"].bytes == 4 * (1 + 32 + len(b"body 0"))
    [snapshot] = found.snapshots
    assert (snapshot.seq, snapshot.manifest) == (6, manifest.digest.hex())
    assert (snapshot.pairs, snapshot.bytes) == (manifest.pairs, manifest.size)
    assert found.disk_bytes > 1000


def test_a_young_node_without_snapshots(tmp_path: Path):
    node = Node(tmp_path)
    node.fill(0)
    found = database_tools.inspect(node.state_dir, node.world.genesis, silent)
    assert (found.height, found.stable_seq, found.diverged_at) == (0, None, None)
    assert found.snapshots == ()


def test_progress_is_reported(node: Node, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database_tools, "_REPORT_EVERY", 2)
    seen: list[tuple[str, int, int]] = []
    database_tools.inspect(node.state_dir, node.world.genesis, lambda *what: seen.append(what))
    assert ("ledger", 6, 0) in seen


def test_the_folder_of_another_network(node: Node):
    with pytest.raises(GenesisMismatchError):
        database_tools.inspect(node.state_dir, World(name="other").genesis, silent)


def test_no_database(tmp_path: Path):
    node = Node(tmp_path)
    for command in (
        lambda: database_tools.inspect(node.state_dir, node.world.genesis, silent),
        lambda: database_tools.compact(node.state_dir),
        lambda: database_repair.repair(node.state_dir, node.world.genesis, silent),
    ):
        with pytest.raises(DatabaseMissingError, match="does not exist"):
            command()
    assert not node.db.exists()
    Database.open(node.db, create=True).close()
    with pytest.raises(NeverFilledError, match="holds no network"):
        database_tools.inspect(node.state_dir, node.world.genesis, silent)


def test_the_node_must_be_stopped(node: Node):
    with Database.open(node.db, create=True):
        for command in (
            lambda: database_tools.inspect(node.state_dir, node.world.genesis, silent),
            lambda: database_tools.compact(node.state_dir),
            lambda: database_repair.repair(node.state_dir, node.world.genesis, silent),
        ):
            with pytest.raises(DatabaseLockedError):
                command()
    assert not list(node.state_dir.glob("*before*"))


def test_compacting(node: Node):
    for size in (400_000, 0):
        with Database.open(node.db, create=True) as database:
            batch = WriteBatch()
            for number in range(20):
                batch.put(Column.LOCAL, b"%d" % number, os.urandom(size))
            database.write(batch)
    before, after = database_tools.compact(node.state_dir)
    assert after < before - 7_000_000
    assert database_check.verify(node.state_dir, node.world.genesis, silent).slots == 6


def test_repairing_what_does_not_open(node: Node):
    Database.open(node.db, create=True).close()  # moves the log into a table
    [manifest] = node.db.glob("MANIFEST-*")
    manifest.write_bytes(b"damaged" * 100)
    with pytest.raises(DatabaseDamagedError, match="db repair"):
        node.open()
    kept = mended(node)
    assert (kept / manifest.name).read_bytes() == b"damaged" * 100
    done = database_check.verify(node.state_dir, node.world.genesis, silent)
    assert (done.slots, done.proofs) == (6, 3)
    assert mended(node).name == f"{kept.name}-2"


def test_repairing_needs_room(node: Node, monkeypatch: pytest.MonkeyPatch):
    class Full:
        free = 10

    monkeypatch.setattr(database_repair.shutil, "disk_usage", lambda _path: Full)
    with pytest.raises(DatabaseToolError, match="free"):
        mended(node)


CRASHING = """
import sys
from pathlib import Path
from tests.validator_node.databases import Node

node = Node(Path(sys.argv[1]))
store = node.open()
while True:
    node.settle(store)
    print(store.height, flush=True)
"""


def test_a_node_that_was_killed_needs_nothing_before(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        reached = [int(process.stdout.readline()) for _ in range(5)][-1]
        process.kill()
    state_dir, genesis = tmp_path / "state", World(window=2, dispute_after=50).genesis
    found = database_tools.inspect(state_dir, genesis, silent)
    assert found.height >= reached
    assert database_check.verify(state_dir, genesis, silent).slots == found.height
    assert database_rollback.rollback(state_dir, genesis, 3, silent).height_before == found.height
    assert database_check.verify(state_dir, genesis, silent).slots == 3
