from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.validator_node.databases import Node
from validator_node.cli.exit_codes import ExitCode
from validator_node.config import load_config
from validator_node.network.limits import Limits
from validator_node.open_files import ensure_open_files, needed

PROGRAM = """
import resource, sys
from validator_node.errors import ConfigError
from validator_node.open_files import ensure_open_files
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    ensure_open_files({"connections": wanted - 3, "workers": 3, "chain": 0})
except ConfigError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def after(soft: int, hard: int, wanted: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(wanted)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    assert after(64, 256, 200) == "(256, 256)\n"
    assert after(256, 256, 256) == "(256, 256)\n"


def test_too_few_are_refused_with_the_number_and_the_way() -> None:
    told = after(64, 128, 200)
    assert "may open 128 files and needs 200 (197 for connections, 3 for workers)" in told
    for way in ("ulimit -Hn 200", "LimitNOFILE=200", "nofile=200"):
        assert way in told


def test_what_is_needed_follows_the_configuration(tmp_path: Path) -> None:
    path = Node(tmp_path).config()
    few = needed(load_config(path), Limits())
    path.write_text(path.read_text() + "workers = 12\n")
    assert sum(needed(load_config(path), Limits()).values()) == sum(few.values()) + 80
    more = needed(load_config(path), Limits(inbound_connections=1000))
    assert sum(more.values()) > 1000
    ensure_open_files({"nothing": 0})


@pytest.mark.processes
def test_a_node_does_not_start_with_too_few(tmp_path: Path) -> None:
    path = Node(tmp_path).config()
    done = subprocess.run(
        [sys.executable, "-m", "validator_node", "run", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    )
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr.startswith("error: this process may open 40 files and needs ")
    assert done.stderr.count("\n") == 1
