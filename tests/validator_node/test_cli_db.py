"""The `db` commands: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storage.database import Column, Database
from tests.validator_node.databases import Node
from validator_node.cli.db import app
from validator_node.database_tools import DatabaseToolError


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.fill(2)
    store = node.open()
    node.snapshot(store)
    node.settle(store)
    store.close()
    return node


def run(node: Node, command: str, *options: str, code: int = 0) -> str:
    found = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [command, "--config", str(node.config()), *options], catch_exceptions=False
    )
    assert found.exit_code == code, found.output
    return found.output


def test_inspect(node: Node):
    text = run(node, "inspect")
    for word in (node.roots[6].hex(), node.hashes[6].hex(), "ledger", "Snapshots"):
        assert word in text
    assert "DIVERGED" not in text
    found = json.loads(run(node, "inspect", "--json"))
    assert (found["height"], found["stable_seq"]) == (6, 4)
    assert found["snapshots"][0]["seq"] == 4


def test_inspect_shows_a_divergence(node: Node):
    store = node.open()
    store.mark_diverged(5)
    store.close()
    assert "DIVERGED" in run(node, "inspect")


def test_compact(node: Node):
    assert "bytes before" in run(node, "compact")
    found = json.loads(run(node, "compact", "--json"))
    assert set(found) == {"bytes_before", "bytes_after"}


def test_verify(node: Node):
    assert "Nothing is damaged" in run(node, "verify")
    assert json.loads(run(node, "verify", "--json"))["slots"] == 6
    node.change(Column.LEDGER, (3).to_bytes(8), None)
    text = run(node, "verify", code=1)
    assert "damaged: ledger: slot 3 is missing" in text
    assert "keep the journal" in text
    found = json.loads(run(node, "verify", "--json", code=1))
    assert (found["whole"], found["stage"]) == (False, "ledger")


def test_a_body_that_does_not_hold_is_dropped_by_repair(node: Node):
    with Database.open(node.db, create=True) as database:
        digest, _ = next(database.iterate(Column.BLOBS))
    node.change(Column.BLOBS, digest, b"other")
    assert "validator-node db repair" in run(node, "verify", code=1)
    assert "1 bodies and proofs did not hold" in run(node, "repair")
    assert "Nothing is damaged" in run(node, "verify")


def test_rollback(node: Node):
    text = run(node, "rollback", "--to", "5")
    assert "from slot 6 to slot 5, replayed from the snapshot of slot 4" in text
    assert node.roots[5].hex() in text
    found = json.loads(run(node, "rollback", "--to", "1", "--json"))
    assert (found["height_before"], found["height"], found["base"]) == (5, 1, 0)
    assert Path(found["kept"]).is_dir()
    with pytest.raises(DatabaseToolError, match="cannot go back to 9"):
        run(node, "rollback", "--to", "9")


def test_repair(node: Node):
    (node.db / "CURRENT").write_text("damaged")
    text = run(node, "repair")
    assert "db.before-repair" in text
    assert "whole, at slot 6" in text
    assert json.loads(run(node, "verify", "--json"))["whole"]
    assert json.loads(run(node, "repair", "--json"))["kept"].endswith("db.before-repair-2")
