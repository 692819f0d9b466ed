"""Where a node may begin: a state folder that is not there is rather one that is elsewhere."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner

from protocol.codec import encode
from runtime.engine import engine_id
from storage.errors import DatabaseDamagedError
from tests.support import World, replaced
from validator_node import run as node_run
from validator_node.beginning import marker_path, note_beginning, read_beginning
from validator_node.cli.main import app
from validator_node.config import NodeConfig, load_config
from validator_node.errors import ConfigError, GenesisMismatchError
from validator_node.keys import Keys, Seeds, save_keystore
from validator_node.opening import begin_store, open_own_store

ROOT = Path(__file__).parents[2]
PASSPHRASE = "correct horse"


class Site:
    """The files of a node that never ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World()
        self.genesis = replaced(self.world.genesis, engine_id=engine_id())
        self.seeds = Seeds.generate()
        (folder / "genesis.bin").write_bytes(encode(self.genesis))
        save_keystore(folder / "keystore", self.seeds, PASSPHRASE)
        (folder / "passphrase").write_text(PASSPHRASE)
        (folder / "passphrase").chmod(0o600)
        self.name("state")

    @property
    def key(self) -> bytes:
        return Keys.of(self.seeds).consensus.public_key

    def name(self, state_dir: str) -> NodeConfig:
        """Let the configuration name another state folder."""
        self.file = self.folder / "node.toml"
        self.file.write_text(
            'genesis = "genesis.bin"\nkeystore = "keystore"\npassphrase_file = "passphrase"\n'
            f'state_dir = "{state_dir}"\nchain_dir = "chain"\n'
        )
        self.config = load_config(self.file)
        return self.config

    def command(self, *words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, [*words, "--config", str(self.file)])
        assert found.exit_code == code, (found.output, found.exception)
        return found.output if found.exception is None or not code else str(found.exception)

    def open(self) -> None:
        open_own_store(self.config, self.genesis, self.key).close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_new_node_begins_by_itself_and_goes_on(site: Site):
    site.open()
    site.open()
    assert not marker_path(site.config.keystore).exists()


def test_a_history_is_known_beside_the_key(site: Site):
    site.command("signing-history", "new")
    known = read_beginning(site.config.keystore)
    assert known is not None
    assert known.state_dir == str(site.folder / "state")
    assert known.consensus_key == site.key.hex()
    site.open()


def test_a_folder_named_by_mistake_is_refused_and_nothing_is_made(site: Site):
    site.command("signing-history", "new")
    site.open()
    site.name("elsewhere")
    for attempt in (site.open, lambda: trio.run(node_run.run_node, site.config)):
        with pytest.raises(ConfigError, match=r"/state\..*db begin"):
            attempt()
    assert "has signed before" in site.command("signing-history", "new", code=1)
    assert not (site.folder / "elsewhere").exists()
    site.name("state")
    site.open()


def test_an_emptied_folder_is_refused_until_the_operator_says_so(site: Site):
    site.command("signing-history", "new")
    site.open()
    shutil.rmtree(site.folder / "state")
    (site.folder / "state").mkdir()  # a disk that is not mounted
    with pytest.raises(ConfigError, match="signing history"):
        site.open()
    assert list((site.folder / "state").iterdir()) == []
    assert "begun" in site.command("db", "begin")
    assert "is there already" in site.command("db", "begin", code=1)
    site.open()


def test_a_database_that_was_removed_beside_its_journal_begins_anew(site: Site):
    site.command("signing-history", "new")
    site.open()
    shutil.rmtree(site.folder / "state" / "db")
    site.open()


def test_a_folder_that_was_moved_whole_is_known(site: Site):
    site.command("signing-history", "new")
    (site.folder / "state").rename(site.folder / "moved")
    site.name("moved")
    site.open()
    note_beginning(site.config, site.genesis.network_id, site.key)
    known = read_beginning(site.config.keystore)
    assert known is not None
    assert known.state_dir == str(site.folder / "moved")


def test_an_imported_history_moves_the_marker(site: Site):
    site.command("signing-history", "new")
    document = site.folder / "history.json"
    site.command("signing-history", "export", "--out", str(document))
    history = json.loads(document.read_text())
    floors = {"epoch": 0, "view": 0, "seq": 0}
    history["signers"] = [{"consensus_key": site.key.hex(), "floors": floors, "vows": []}]
    document.write_text(json.dumps(history))
    site.name("new-home")
    site.command("signing-history", "import", str(document))
    known = read_beginning(site.config.keystore)
    assert known is not None
    assert known.state_dir == str(site.folder / "new-home")
    site.open()


def test_another_key_or_network_begins_clean(site: Site):
    site.command("signing-history", "new")
    site.name("elsewhere")
    other = replaced(site.genesis, name="another")
    open_own_store(site.config, other, site.key).close()
    with pytest.raises(GenesisMismatchError):
        site.open()
    site.name("third")
    open_own_store(site.config, site.genesis, bytes(32)).close()


def test_a_damaged_marker_says_what_to_do(site: Site):
    marker_path(site.config.keystore).write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match="state_dir is that folder, then remove"):
        site.open()


def test_a_process_killed_while_it_begins_leaves_a_node_that_begins(site: Site):
    """Wherever the process ends, the next start opens or begins; it is never damage."""
    program = (
        "import os, sys, threading, time\nfrom pathlib import Path\n"
        "import storage.database as d\nfrom tests.validator_node.test_beginning import *\n"
        "steps = int(sys.argv[2])\n"
        "real = d.Database.write\n"
        "def write(self, *a, **k):\n"
        "    global steps\n"
        "    steps -= 1\n"
        "    if steps < 0: os._exit(9)\n"
        "    real(self, *a, **k)\n"
        "d.Database.write = write\n"
        "from validator_node.config import load_config, load_genesis\n"
        "c = load_config(Path(sys.argv[1]))\n"
        "open_own_store(c, load_genesis(c.genesis), bytes(32)).close()\n"
    )
    for steps, code in ((0, 9), (1, 9), (5, 0)):
        config = site.name(f"state-{steps}")
        done = subprocess.run(
            [sys.executable, "-c", program, str(site.file), str(steps)],
            check=False,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode == code
        store = open_own_store(config, site.genesis, bytes(32))
        assert store.height == 0
        assert store.root_after(0) is not None
        store.close()


def test_begin_store_refuses_the_remains_of_a_database(site: Site):
    site.open()
    (site.config.state_dir / "db" / "CURRENT").unlink()
    with pytest.raises(DatabaseDamagedError, match="db repair"):
        begin_store(site.config, site.genesis)


def test_run_refuses_the_remains_of_a_database(site: Site):
    site.open()
    (site.config.state_dir / "db" / "CURRENT").unlink()
    before = sorted(path.name for path in site.config.state_dir.rglob("*"))
    with pytest.raises(DatabaseDamagedError, match="db repair"):
        trio.run(node_run.run_node, site.config)
    assert sorted(path.name for path in site.config.state_dir.rglob("*")) == before
    assert "mended" in site.command("db", "repair")
    site.open()


FOUNDING = {
    ("validator_node/opening.py", "open_own_store"),
    ("validator_node/opening.py", "begin_store"),
    ("validator_node/records/assembly.py", "_opened_records"),
    ("validator_node/sync/download.py", "_build"),
    ("validator_node/database_rollback.py", "_founded"),
    ("validator_node/store.py", "open"),
}
"""Where a database may begin: the node's own, the DHT's, and those made aside of a snapshot."""


def test_nothing_else_begins_a_database():
    found = set()
    for path in [*ROOT.glob("validator_node/**/*.py"), *ROOT.glob("storage/**/*.py")]:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and _begins(call):
                        found.add((str(path.relative_to(ROOT)), function.name))
    assert found == FOUNDING


def _begins(call: ast.Call) -> bool:
    names = {keyword.arg for keyword in call.keywords}
    owner = getattr(getattr(call.func, "value", None), "id", "")
    return "create" in names and owner in {"Database", "Store"}
