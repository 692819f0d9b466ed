"""Going back to an earlier slot: the same state as then, the old database kept, the log intact."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from consensus.messages import Evidence, Vote
from protocol.codec import sha256
from storage.database import Column, Database, WriteBatch
from storage.errors import DatabaseLockedError
from storage.ledger import Ledger
from storage.retention import Aged, Floors, Retention
from storage.snapshots import SnapshotFolder
from tests.validator_node.databases import Node, silent
from validator_node import database_rollback
from validator_node.database_check import DamageFoundError, verify
from validator_node.database_rollback import RolledBack, exchange, rollback
from validator_node.database_tools import SNAPSHOT_FOLDER, DatabaseToolError
from validator_node.store import Store


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """13 slots: an epoch's edge at 5, snapshots at 7 and 11."""
    node = Node(tmp_path)
    store = node.open()
    node.settle(store)
    node.end_epoch(store)
    node.settle(store)
    node.snapshot(store)
    node.settle(store)
    node.settle(store)
    node.snapshot(store)
    node.settle(store)
    assert store.height == 13
    store.close()
    return node


def back(node: Node, seq: int) -> RolledBack:
    return rollback(node.state_dir, node.world.genesis, seq, silent)


def replay(node: Node, kept: Path, first: int, last: int) -> None:
    """Apply the old log's slots to the node's database, as catching up does."""
    with Database.open(kept, create=True) as database:
        old, store = Store(database, node.world.genesis), node.open()
        for seq in range(first, last + 1):
            decided = old.batch_at(seq)
            assert decided is not None
            store.apply(*decided)
        store.flush()
        store.close()


@pytest.mark.parametrize(
    ("seq", "base"),
    [(0, 0), (1, 0), (4, 0), (5, 0), (6, 0), (7, 7), (8, 7), (10, 7), (11, 11), (12, 11)],
)
def test_the_state_is_the_one_of_that_slot(node: Node, seq: int, base: int):
    with node.open().database as database:
        genesis_root = Store(database, node.world.genesis).root_after(0)
    roots = {0: genesis_root, **node.roots}
    done = back(node, seq)
    assert (done.height_before, done.height, done.base) == (13, seq, base)
    assert done.state_root == roots[seq].hex()
    store = node.open()
    assert (store.height, store.tree.root()) == (seq, roots[seq])
    assert store.chain_hash == node.hashes.get(seq, node.world.network_id)
    assert store.epoch == (0 if seq < 5 else 1)
    assert all(store.root_after(known) == root for known, root in roots.items() if known <= seq)
    assert store.root_after(seq + 1) is None
    assert (store.ledger.first(), store.batch_at(seq + 1)) == (1, None)
    store.close()
    assert verify(node.state_dir, node.world.genesis, silent).slots == seq
    replay(node, Path(done.kept), seq + 1, 13)
    store = node.open()
    assert (store.height, store.tree.root(), store.chain_hash) == (13, roots[13], node.hashes[13])
    store.close()
    assert verify(node.state_dir, node.world.genesis, silent).slots == 13


def test_the_old_database_is_kept(node: Node):
    done = back(node, 8)
    assert done.kept == str(node.state_dir / "db.before-rollback-13")
    with Database.open(Path(done.kept)) as database:
        assert Store(database, node.world.genesis).tree.root() == node.roots[13]
    replay(node, Path(done.kept), 9, 13)
    assert back(node, 8).kept == str(node.state_dir / "db.before-rollback-13-2")
    assert not (node.state_dir / "db.rollback").exists()


def test_what_does_not_hang_on_the_slot_is_carried_over(node: Node):
    votes = [
        Vote(
            kind="prepare",
            epoch=0,
            view=0,
            seq=1,
            digest=sha256(text),
            signer=1,
            signature=bytes(64),
        )
        for text in (b"one", b"two")
    ]
    evidence = Evidence(first=votes[0], second=votes[1])
    store = node.open()
    store.put_evidence(evidence)
    store.flush()
    others = (Column.RECORDS, Column.AUDIT, Column.LOCAL, Column.SEALED)
    batch, retention = WriteBatch(), Retention(store.database, store.ledger)
    for column in others:
        batch.put(column, b"name", b"value")
    retention.note(batch, Aged.BODY, sha256(b"body 0"), 1)
    for number, seq in ((0, 2), (2, 9)):
        retention.note(batch, Aged.PROOF, node.results[number], seq)
    store.database.write(batch)
    store.close()
    back(node, 8)
    store = node.open()
    assert store.evidence() == [evidence]
    assert all(store.database.get(column, b"name") == b"value" for column in others)
    assert [store.body(sha256(b"body %d" % number)) for number in (0, 5)] == [b"body 0", b"body 5"]
    noted = Retention(store.database, store.ledger)
    assert noted.slot_of(Aged.BODY, sha256(b"body 0")) == 1
    assert noted.slot_of(Aged.PROOF, node.results[0]) == 2
    assert noted.slot_of(Aged.PROOF, node.results[2]) is None
    assert [store.result(found) is not None for found in node.results] == [True, True] + [False] * 3
    assert store.receipt(node.results[0]) is not None
    store.close()


@pytest.mark.parametrize(("seq", "stable"), [(4, None), (5, 5), (6, 5), (8, 5), (12, 11)])
def test_no_checkpoint_above_the_slot_is_left(node: Node, seq: int, stable: int | None):
    back(node, seq)
    store = node.open()
    found = store.stable()
    assert (None if found is None else found.checkpoint.seq) == stable
    assert (store.edge_checkpoint(0) is not None) == (seq >= 5)
    store.close()


@pytest.mark.parametrize(("diverged", "kept"), [(8, 8), (9, None)])
def test_a_divergence_above_the_slot_is_forgotten(node: Node, diverged: int, kept: int | None):
    store = node.open()
    store.mark_diverged(diverged)
    store.close()
    back(node, 8)
    store = node.open()
    assert store.diverged_at == kept
    store.close()


def test_a_state_that_went_wrong_is_computed_anew(node: Node):
    """The node's own roots from slot 9 on are wrong: what the batches name counts."""
    for seq in (9, 10, 11, 12, 13):
        node.change(Column.ROOTS, seq.to_bytes(8), sha256(b"wrong"))
    done = back(node, 12)
    assert (done.base, done.state_root) == (7, node.roots[12].hex())
    assert verify(node.state_dir, node.world.genesis, silent).slots == 12


@pytest.mark.parametrize("seq", [-1, 13, 14])
def test_only_to_an_earlier_slot(node: Node, seq: int):
    with pytest.raises(DatabaseToolError, match=f"is at slot 13, cannot go back to {seq}"):
        back(node, seq)


def prune(node: Node, first: int) -> None:
    with Database.open(node.db, create=True) as database:
        batch = WriteBatch()
        Retention(database, Ledger(database)).step(batch, Floors(ledger=first))
        database.write(batch)


def test_a_pruned_log_is_gone_on_from_the_snapshot(node: Node):
    prune(node, 7)
    assert back(node, 9).base == 7
    store = node.open()
    assert (store.height, store.ledger.first(), store.tree.root()) == (9, 7, node.roots[9])
    store.close()
    assert verify(node.state_dir, node.world.genesis, silent).slots == 3


def test_a_log_that_no_longer_reaches_back(node: Node):
    prune(node, 10)
    with pytest.raises(DatabaseToolError, match=r"begins at slot 10, and slot 11 is the earliest"):
        back(node, 9)
    shutil.rmtree(node.state_dir / SNAPSHOT_FOLDER)
    with pytest.raises(DatabaseToolError, match="no snapshot reaches it"):
        back(node, 12)
    store = node.open()
    assert store.height == 13
    store.close()


def test_a_log_that_does_not_lead_there_changes_nothing(node: Node):
    with Database.open(node.db, create=True) as database:
        moved = database.get(Column.LEDGER, (8).to_bytes(8))
    node.change(Column.LEDGER, (8).to_bytes(8), None)
    with pytest.raises(DamageFoundError, match="slot 8 is missing"):
        back(node, 9)
    assert moved is not None
    node.change(Column.LEDGER, (8).to_bytes(8), moved[:-1] + bytes([moved[-1] ^ 1]))
    back(node, 7)
    assert {path.name for path in node.state_dir.iterdir()} == {
        "db",
        "db.before-rollback-13",
        SNAPSHOT_FOLDER,
    }


def test_a_snapshot_of_another_state_is_not_begun_from(node: Node):
    folder = SnapshotFolder(node.state_dir / SNAPSHOT_FOLDER, keep=5)
    folder.write([(b"a", b"b")], 7, sha256(b"other"), cancelled=lambda: False)
    assert back(node, 8).base == 0


def test_the_node_must_be_stopped(node: Node):
    leftover = node.state_dir / "db.rollback"
    leftover.mkdir()
    store = node.open()
    with pytest.raises(DatabaseLockedError):
        back(node, 8)
    store.close()
    (leftover / "of a crash").write_text("")
    assert back(node, 8).height == 8


def test_the_folders_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "1").write_text("")
    exchange(first, second)
    assert (second / "1").exists()
    assert not (first / "1").exists()
    with pytest.raises(OSError, match="No such file"):
        exchange(first, tmp_path / "none")
    # A flag that no system knows stands for a file system that cannot exchange.
    monkeypatch.setattr(database_rollback, "_RENAME_EXCHANGE", 1 << 20)
    exchange(first, second)
    assert (first / "1").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_the_journal_is_not_touched(node: Node):
    journal = node.state_dir / "journal"
    journal.mkdir()
    (journal / "segment").write_bytes(b"promises")
    marker = node.state_dir / "journal.marker"
    marker.write_bytes(b"marker")
    back(node, 3)
    assert (journal / "segment").read_bytes() == b"promises"
    assert marker.read_bytes() == b"marker"


def test_folders_that_cannot_change_places_leave_the_old_database(
    node: Node, monkeypatch: pytest.MonkeyPatch
):
    def refused(_first: Path, _second: Path) -> None:
        raise OSError("refused")

    with monkeypatch.context() as patched:
        patched.setattr(database_rollback, "exchange", refused)
        with pytest.raises(OSError, match="refused"):
            back(node, 8)
    store = node.open()
    assert (store.height, store.tree.root()) == (13, node.roots[13])
    store.close()
    assert back(node, 8).kept.endswith("db.before-rollback-13-2")
