"""Verifying a database: a whole one passes, and each kind of damage is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol.codec import decode, encode, sha256
from protocol.records.checkpoint import CheckpointCertificate
from storage.database import Column, Database, WriteBatch
from storage.ledger import Ledger, LedgerEntry
from storage.retention import Floors, Retention
from tests.support import replaced
from tests.validator_node.databases import Node, silent
from validator_node import database_check
from validator_node.database_check import DamageFoundError, Verified, verify
from validator_node.database_tools import SNAPSHOT_FOLDER
from validator_node.receipts import ProvenResult


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    store = node.open()
    node.settle(store)
    node.end_epoch(store)
    node.settle(store)
    node.snapshot(store)
    node.settle(store)
    store.close()
    return node


def row(node: Node, column: Column, key: bytes) -> bytes:
    with Database.open(node.db, create=True) as database:
        found = database.get(column, key)
    assert found is not None
    return found


def slot(seq: int) -> bytes:
    return seq.to_bytes(8)


def change_entry(node: Node, seq: int, **changes: object) -> None:
    entry = decode(LedgerEntry, row(node, Column.LEDGER, slot(seq)))
    node.change(Column.LEDGER, slot(seq), encode(replaced(entry, **changes)))


def damaged(node: Node) -> DamageFoundError:
    with pytest.raises(DamageFoundError) as caught:
        verify(node.state_dir, node.world.genesis, silent)
    return caught.value


def test_a_whole_database(node: Node):
    done = verify(node.state_dir, node.world.genesis, silent)
    assert isinstance(done, Verified)
    assert (done.slots, done.checkpoints, done.proofs, done.blobs) == (9, 2, 3, 3)
    assert done.chunks == 1
    with Database.open(node.db, create=True) as database:
        assert done.keys == len(list(database.iterate(Column.STATE_VALUES)))
        assert done.rows == sum(1 for column in Column for _ in database.iterate(column))


def test_progress_is_reported(node: Node, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database_check, "_REPORT_EVERY", 3)
    seen: list[tuple[str, int, int]] = []
    verify(node.state_dir, node.world.genesis, lambda *what: seen.append(what))
    assert ("ledger", 3, 9) in seen
    assert seen[-1] == ("snapshots", 1, 1)


def test_a_pruned_database(node: Node):
    with Database.open(node.db, create=True) as database:
        batch = WriteBatch()
        Retention(database, Ledger(database)).step(batch, Floors(ledger=6, proofs=4))
        database.write(batch)
    assert verify(node.state_dir, node.world.genesis, silent).slots == 4


def other_slot(node: Node) -> None:
    node.change(Column.LEDGER, slot(5), row(node, Column.LEDGER, slot(4)))


def other_parent(node: Node) -> None:
    """A slot that somebody decided on another chain."""
    entry = decode(LedgerEntry, row(node, Column.LEDGER, slot(3)))
    store = node.open()
    certificate = store.certificate_at(3)
    store.close()
    assert certificate is not None
    header = replaced(certificate.header, parent=bytes(32))
    node.world.begin_epoch(0)
    data = encode(node.world.certificate(header))
    changed = replaced(entry, digest=header.digest, certificate=data)
    node.change(Column.LEDGER, slot(3), encode(changed))


def unsigned(node: Node) -> None:
    store = node.open()
    certificate = store.certificate_at(4)
    store.close()
    assert certificate is not None
    forged = replaced(certificate, signatures=(bytes(64),) * len(certificate.signatures))
    change_entry(node, 4, certificate=encode(forged))


def wrong_root(node: Node) -> None:
    node.change(Column.ROOTS, slot(2), bytes(32))


def wrong_stable(node: Node) -> None:
    found = decode(CheckpointCertificate, row(node, Column.META, b"stable"))
    forged = replaced(found, checkpoint=replaced(found.checkpoint, state_root=bytes(32)))
    node.change(Column.META, b"stable", encode(forged))


def wrong_value(node: Node) -> None:
    with Database.open(node.db, create=True) as database:
        key, value = next(database.iterate(Column.STATE_VALUES))
    node.change(Column.STATE_VALUES, key, value + b"x")


def wrong_proof(node: Node) -> None:
    proven = decode(ProvenResult, row(node, Column.PROOFS, node.results[0]))
    forged = replaced(proven, proof=replaced(proven.proof, siblings=proven.proof.siblings[1:]))
    node.change(Column.PROOFS, node.results[0], encode(forged))


DAMAGES: dict[str, tuple[Callable[[Node], object], str, str]] = {
    "missing": (lambda n: n.change(Column.LEDGER, slot(5), None), "ledger", "slot 5 is missing"),
    "garbage": (lambda n: n.change(Column.LEDGER, slot(5), b"\xc0"), "ledger", "sequence 5"),
    "moved": (other_slot, "ledger", "sequence 4 is stored as 5"),
    "body": (lambda n: change_entry(n, 4, body=b"\x92"), "ledger", "slot 4"),
    "digest": (lambda n: change_entry(n, 4, digest=bytes(32)), "ledger", "slot 4"),
    "parent": (other_parent, "ledger", "slot 3 does not follow slot 2"),
    "unsigned": (unsigned, "ledger", "slot 4: signature of validator"),
    "index": (
        lambda n: n.change(Column.LEDGER_DIGESTS, n.hashes[3], None),
        "ledger",
        "slot 3 is not found by its digest",
    ),
    "root": (wrong_root, "ledger", "slot 4 names state root"),
    "tip": (
        lambda n: n.change(Column.META, b"ledger-tip", msgspec.msgpack.encode([8, n.hashes[9]])),
        "ledger",
        "not the tip's digest",
    ),
    "stable": (wrong_stable, "checkpoints", "signature|signed"),
    "value": (wrong_value, "state", "its values have"),
    "root node": (lambda n: n.change(Column.STATE_NODES, b"\x01", None), "state", "."),
    "node": (lambda n: n.change(Column.STATE_NODES, b"\x02", None), "state", "path 10 is missing"),
    "proof": (wrong_proof, "proofs", "."),
    "foreign proof": (
        lambda n: n.change(Column.PROOFS, bytes(32), row(n, Column.PROOFS, n.results[0])),
        "proofs",
        "has no result",
    ),
    "blob": (lambda n: n.change(Column.BLOBS, sha256(b"body 0"), b"x"), "blobs", "another content"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_first_damage_is_named(node: Node, kind: str):
    damage, stage, detail = DAMAGES[kind]
    damage(node)
    found = damaged(node)
    assert found.stage == stage
    assert re.search(detail, found.detail)


def test_a_damaged_snapshot_is_named_and_stays(node: Node):
    [chunk] = (
        path for path in (node.state_dir / SNAPSHOT_FOLDER).glob("*/*") if path.stem != "manifest"
    )
    data = bytearray(chunk.read_bytes())
    data[50] ^= 1
    chunk.write_bytes(data)
    for _ in range(2):  # looking drops nothing
        assert damaged(node).stage == "snapshots"
    assert chunk.read_bytes() == data


def test_a_damaged_file_is_named(node: Node):
    Database.open(node.db, create=True).close()  # moves the log into a table
    for table in node.db.glob("*.ldb"):
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 0xFF
        table.write_bytes(data)
    found = damaged(node)
    assert found.stage == "files"
    assert "db" in found.detail
