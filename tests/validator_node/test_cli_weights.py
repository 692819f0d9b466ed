"""The `weights` and `metagraph` commands: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.codec import sha256
from protocol.identity import ss58_of
from tests.support import make_verdict
from tests.validator_node.databases import Node
from validator_node.cli.main import app
from validator_node.cli.weights_submit import NotSubmittedError
from validator_node.errors import ConfigError
from validator_node.keys import Seeds, save_keystore


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node that closed one epoch, in which miner 0 earned something in challenge alpha."""
    made = Node(tmp_path)
    store = made.open()
    signed = made.world.signed(expiry_epoch=9)
    verdict = make_verdict(signed.submission.submission_id, 7)
    statements = [made.world.statement(signer, verdict) for signer in (1, 2, 3)]
    made.decide(store, made.world.statement(0, signed), *statements)
    made.end_epoch(store)
    store.close()
    return made


def run(node: Node, *words: str) -> str:
    found = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [*words, "--config", str(node.config())], catch_exceptions=False
    )
    assert found.exit_code == 0, found.output
    return found.output


def test_show(node: Node) -> None:
    uid = node.world.uid(0)
    text = run(node, "weights", "show")
    for word in ("mechanism 0", "65535", "alpha", "beta", "no_scores", "masked: 0"):
        assert word in text
    found = json.loads(run(node, "weights", "show", "--epoch", "0", "--json"))
    assert found["mechanisms"][0]["weights"] == {str(uid): 65535}
    assert [share["reason"] for share in found["shares"]] == ["", "no_scores"]


def test_an_epoch_that_has_not_ended(node: Node) -> None:
    with pytest.raises(ConfigError, match="epoch 1 has no weights"):
        run(node, "weights", "show", "--epoch", "1")


def test_explain(node: Node) -> None:
    uid = node.world.uid(0)
    text = run(node, "weights", "explain", str(uid))
    for word in ("weight 65535, earned", "7/7", "0.750000", "1 scored"):
        assert word in text
    found = json.loads(run(node, "weights", "explain", str(uid), "--json"))
    assert found["parts"][0]["share"] == "3/4"
    assert found["reasons"] == {"0": "earned"}
    other = json.loads(run(node, "weights", "explain", "0", "--json"))
    assert other["reasons"] == {"0": "nothing_counted"}
    assert other["hotkey"] == ss58_of(node.world.hotkeys[0].public_key)


def test_explain_before_an_epoch_has_ended(tmp_path: Path) -> None:
    fresh = Node(tmp_path)
    fresh.open().close()
    with pytest.raises(ConfigError, match="no epoch has ended"):
        run(fresh, "weights", "explain", "4")


def test_metagraph(node: Node) -> None:
    text = run(node, "metagraph")
    assert ss58_of(node.world.hotkeys[0].public_key) in text
    found = json.loads(run(node, "metagraph", "--json"))
    assert (found["epoch"], found["set_kept"], len(found["neurons"])) == (1, "", 8)
    first, last = found["neurons"][0], found["neurons"][-1]
    assert (first["votes with"], last["votes with"], last["consensus key"]) == (1, "", "")


def unlock(node: Node, monkeypatch: pytest.MonkeyPatch, hotkey_seed: bytes) -> None:
    """Give the node a keystore with this hotkey."""
    seeds = Seeds(hotkey=hotkey_seed, consensus=bytes(32), libp2p=bytes(32))
    save_keystore(node.folder / "keystore", seeds, "secret")
    monkeypatch.setenv("VALIDATOR_PASSPHRASE", "secret")


def test_submit_says_what_it_would_do_and_then_does_it_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlock(node, monkeypatch, sha256(b"hotkey", bytes([0])))
    for _ in range(2):
        assert "would be sent now" in run(node, "weights", "submit", "--dry-run")
    assert "ReadBack" in run(node, "weights", "submit")
    assert "carried to the chain already" in run(node, "weights", "submit", "--dry-run")
    assert "already=True" in run(node, "weights", "submit")


def test_submit_names_why_it_would_not(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    unlock(node, monkeypatch, sha256(b"nobody"))
    text = run(node, "weights", "submit", "--dry-run")
    assert "would not be sent, HotKeyNotRegisteredInSubNet" in text
    with pytest.raises(NotSubmittedError, match="mechanism 0"):
        run(node, "weights", "submit")
