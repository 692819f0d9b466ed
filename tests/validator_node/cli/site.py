"""Everything that commands read, in one folder, and each command with what it reads of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from protocol.codec import encode, sha256
from runtime.engine import engine_id
from storage.signing_history import export_history
from tests.challenges.folders import GOOD, wat_project
from tests.support import OWNER
from tests.validator_node.databases import Node
from tests.validator_node.test_cli_weights import node_at
from validator_node.journal_bridge import begin_history
from validator_node.keys import Seeds, load_keystore, save_keystore
from validator_node.sync.handovers import Handovers

PASSPHRASE = "a good one"
NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
CONFIG = """
genesis = "genesis.bin"
keystore = "keystore"
passphrase_file = "passphrase"
state_dir = "state"
chain_dir = "chain"
listen_port = {port}
"""
VECTORS = {
    "challenge": "written",
    "version": 1,
    "vectors": [
        {
            "name": "one",
            "submission": "text:x",
            "expected": "ok",
            "output": {"score": 5, "valid": True, "message": "", "metrics": {}},
        }
    ],
}


def make_site(folder: Path, *, port: int) -> Node:
    """Fill `folder`; a node of it would listen on `port`, which should be taken."""
    folder.mkdir()
    node = node_at(folder, 26, engine=engine_id())
    world = node.world
    _store_things(node)
    (folder / "genesis.bin").write_bytes(encode(world.genesis))
    (folder / "node.toml").write_text(CONFIG.format(port=port))
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    hotkey = sha256(b"hotkey", bytes([0]))
    seeds = Seeds(hotkey=hotkey, consensus=bytes(32), libp2p=bytes(32))
    save_keystore(folder / "keystore", seeds, PASSPHRASE)
    state = node.state_dir
    begin_history(state, load_keystore(folder / "keystore", PASSPHRASE).consensus.public_key)
    text = export_history(state / "journal", state / "journal.marker", world.network_id)
    (folder / "history.json").write_text(text)
    wat_project(folder, GOOD)
    (folder / "written" / "vectors.json").write_text(json.dumps(VECTORS, indent=1))
    (folder / "body.txt").write_text("a payload\n")
    key = folder / "owner.key"
    key.write_text(f"{sha256(b'owner').hex()}\n")
    key.chmod(0o600)
    neuron = f'[[neurons]]\nhotkey = "{OWNER.address}"\n'
    (folder / "subnet.toml").write_text(f"netuid = 5\n{neuron}{neuron}")  # twice: never starts
    (folder / "trial.toml").write_text('name = "trial"\nvalidators = 4\nduration = 0.0\n')
    (folder / "miner.json").write_text(json.dumps({"seed": "00", "genesis": "nowhere"}))
    return node


def _store_things(node: Node) -> None:
    store = node.open()
    try:
        submission = node.world.signed(expiry_epoch=9).submission.submission_id
        receipt = store.receipt(submission)
        assert receipt is not None
        (node.folder / "my.receipt").write_bytes(encode(receipt))
        (node.folder / "sets.bin").write_bytes(encode(Handovers(handovers=())))
        node.snapshot(store)
    finally:
        store.close()


@dataclass(frozen=True)
class Command:
    """A command line in the site's folder, and what it reads."""

    words: tuple[str, ...]
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    looks: bool = True
    """Whether it must write nothing at all."""
    slow: bool = False
    """Whether one run takes more than half a second."""

    @property
    def name(self) -> str:
        """Its words up to the first option, without file names."""
        return "-".join(word for word in self.words[:2] if word.isidentifier() or "-" in word[1:])


NODE_FILES = ("node.toml", "genesis.bin")
KEY_FILES = (*NODE_FILES, "keystore", "passphrase")
WITH_CONFIG = ("--config", "node.toml")
PROJECT = ("written/platform.toml", "written/module.wasm")
DB = ("state/db", "state")
JOURNAL = ("state/journal", "state")


def _of_node(*words: str, folders: tuple[str, ...] = DB, **more: bool) -> Command:
    return Command((*words, *WITH_CONFIG), NODE_FILES, folders, **more)


COMMANDS = (
    Command(("version",)),
    Command(("run", *WITH_CONFIG), KEY_FILES, looks=False),
    _of_node("evidence"),
    _of_node("checkpoint"),
    _of_node("metagraph"),
    _of_node("weights", "show"),
    _of_node("weights", "explain", "4"),
    Command(
        ("weights", "submit", "--dry-run", *WITH_CONFIG), KEY_FILES, ("state/db",), looks=False
    ),
    _of_node("db", "inspect"),
    _of_node("db", "begin", looks=False),
    _of_node("db", "compact", looks=False),
    _of_node("db", "verify"),
    _of_node("db", "rollback", "--to", "2", looks=False),
    _of_node("db", "repair", looks=False),
    Command(("audit", "verify", *WITH_CONFIG), ("node.toml",), ("state/db", "state/audit")),
    Command(("audit", "show", *WITH_CONFIG), ("node.toml",), ("state/db", "state/audit")),
    Command(("signing-history", "new", *WITH_CONFIG), KEY_FILES, JOURNAL, looks=False),
    Command(
        ("signing-history", "export", *WITH_CONFIG, "--out", "out.json"),
        NODE_FILES,
        JOURNAL,
        looks=False,
    ),
    Command(
        ("signing-history", "import", *WITH_CONFIG, "history.json"),
        (*NODE_FILES, "history.json"),
        JOURNAL,
        looks=False,
    ),
    Command(
        ("signing-history", "skip", *WITH_CONFIG, "--epoch", "3"), KEY_FILES, JOURNAL, looks=False
    ),
    Command(
        ("receipt", "verify", "my.receipt", "--genesis", "genesis.bin", "--sets", "sets.bin"),
        ("my.receipt", "genesis.bin", "sets.bin"),
    ),
    Command(("receipt", "fetch", "zz", "--node", NOBODY, "--out", "out"), ()),
    Command(("challenge", "new", "fresh", "--into", "written"), (), ("written",), looks=False),
    Command(("challenge", "build", "written", "--check"), PROJECT, ("written/source",), slow=True),
    Command(
        ("challenge", "test", "written", "--stale"),
        (*PROJECT, "written/vectors.json"),
        ("written",),
        slow=True,
    ),
    Command(
        ("challenge", "run", "body.txt", "written"), (*PROJECT, "body.txt"), ("written",), slow=True
    ),
    Command(
        ("challenge", "bench", "written", "--rounds", "1"),
        (*PROJECT, "written/vectors.json"),
        ("written",),
        slow=True,
    ),
    Command(("challenge", "run", "--replay", "00" * 32, *WITH_CONFIG), NODE_FILES, ("state/db",)),
    Command(
        (
            *("owner", "publish", "written", "--genesis", "genesis.bin", "--peer", "nonsense"),
            *("--key", "owner.key"),
        ),
        ("genesis.bin", "owner.key", "written/platform.toml"),
        slow=True,
    ),
    Command(
        ("owner", "status", "written", "--genesis", "genesis.bin", "--peer", "nonsense"),
        ("genesis.bin", "written/platform.toml"),
        slow=True,
    ),
    Command(("devchain", "--port", "0", "--neurons", "subnet.toml"), ("subnet.toml",), looks=False),
    Command(
        ("testnet", "--manifest", "trial.toml", "--fabric", "silk"), ("trial.toml",), looks=False
    ),
    Command(("mine", "--config", "miner.json"), ("miner.json",)),
)
"""Every sub-command. None of them does anything with the whole site that lasts."""


def copy_site(source: Path, target: Path) -> None:
    """Copy a site, links and modes too."""
    shutil.copytree(source, target, symlinks=True)
