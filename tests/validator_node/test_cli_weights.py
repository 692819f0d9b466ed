"""The `weights` and `metagraph` commands: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consensus.validators import Voters
from protocol.codec import sha256
from protocol.identity import ss58_of
from storage.errors import StorageError
from tests.support import make_verdict, replaced
from tests.validator_node.databases import Node
from validator_node.cli import weights_submit
from validator_node.cli.main import app
from validator_node.cli.weights_submit import NotSubmittedError, submit_weights
from validator_node.errors import AbsentError
from validator_node.founding import now_ms
from validator_node.keys import Seeds, save_keystore

BLOCK_MS = 6000


def node_at(
    folder: Path, chain_block: int, *, certified: bool = True, engine: bytes = sha256(b"engine")
) -> Node:
    """Return a node that closed epoch 0 at the chain's block 20, while the chain is elsewhere.

    Miner 0 earned something in challenge alpha. The chain's epochs have 20 blocks.
    """
    made = Node(folder)
    world = made.world
    start_ms = now_ms() - chain_block * BLOCK_MS
    chain = replaced(world.genesis.chain, start_ms=start_ms, block_time_ms=BLOCK_MS)
    world.genesis = replaced(world.genesis, chain=chain, engine_id=engine)
    world.network_id = world.genesis.network_id
    world.voters = Voters(world.genesis.validators, world.network_id)
    store = made.open()
    signed = world.signed(expiry_epoch=9)
    verdict = make_verdict(signed.submission.submission_id, 7)
    statements = [world.statement(signer, verdict) for signer in (1, 2, 3)]
    made.decide(store, world.statement(0, signed), *statements)
    made.end_epoch(store)
    for _ in range(world.genesis.parameters.window if certified else 0):
        made.decide(store)
    store.close()
    return made


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose newest weights are those of the chain's present epoch."""
    return node_at(tmp_path, 26)


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
    with pytest.raises(AbsentError, match="epoch 1 has no weights"):
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
    with pytest.raises(AbsentError, match="no epoch has ended"):
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


def test_weights_that_the_chain_has_left_are_sent_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_at(tmp_path, 46)
    unlock(node, monkeypatch, sha256(b"hotkey", bytes([0])))
    text = " ".join(run(node, "weights", "submit", "--dry-run").split())
    assert "of block 20, and the chain's newest epoch has begun at block 40" in text
    assert "would be sent now" in text
    with pytest.raises(NotSubmittedError, match=r"block 20, .* at block 40: .*--stale"):
        run(node, "weights", "submit")
    assert "would be sent now" in run(node, "weights", "submit", "--dry-run")
    submit_weights(node.config(), dry_run=False, stale=True)
    assert "carried to the chain already" in run(node, "weights", "submit", "--dry-run")


def test_weights_that_are_not_certified_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_at(tmp_path, 26, certified=False)
    unlock(node, monkeypatch, sha256(b"hotkey", bytes([0])))
    with pytest.raises(NotSubmittedError, match=r"not certified yet: slot 6 .* up to 4"):
        run(node, "weights", "submit")


def test_no_node_can_start_while_weights_are_sent(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlock(node, monkeypatch, sha256(b"hotkey", bytes([0])))
    refused: list[str] = []

    def look(_decision: object) -> str:
        with pytest.raises(StorageError) as caught:
            node.open()
        refused.append(str(caught.value))
        return ""

    monkeypatch.setattr(weights_submit, "_decision", look)
    run(node, "weights", "submit", "--dry-run")
    assert len(refused) == 1
    node.open().close()


def test_a_chain_that_does_not_answer_is_one_clear_error(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlock(node, monkeypatch, sha256(b"hotkey", bytes([0])))
    monkeypatch.setattr(weights_submit, "CONNECT_DEADLINE_S", 1.0)
    config = node.config()
    text = config.read_text().replace(
        'chain_dir = "chain"', 'chain_endpoints = ["ws://127.0.0.1:1"]'
    )
    config.write_text(text)
    with pytest.raises(BaseExceptionGroup) as caught:
        submit_weights(config, dry_run=True)
    assert caught.group_contains(NotSubmittedError, match="the chain does not answer: .+")


def test_trouble_with_the_chain_is_one_clear_error(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlock(node, monkeypatch, sha256(b"hotkey", bytes([0])))
    folder = node.folder / "chain"
    folder.mkdir()
    for hotkey in node.world.hotkeys:
        (folder / f"{hotkey.public_key.hex()}.json").write_text("damaged")
    with pytest.raises(NotSubmittedError, match="state_unreadable"):
        run(node, "weights", "submit", "--dry-run")
