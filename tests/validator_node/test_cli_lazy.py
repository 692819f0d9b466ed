"""The command line as a whole: every command is there, and only what is called is imported."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from validator_node.cli.lazy import COMMANDS, HIDDEN
from validator_node.cli.main import app

PROGRAM = """
import sys
from typer.testing import CliRunner
from validator_node.cli.main import app
done = CliRunner().invoke(app, ["challenge", "new", "--help"])
assert done.exit_code == 0, done.output
print(*sorted(name for name in sys.modules if name.startswith("validator_node.")))
"""


def test_every_command_has_help_and_is_listed() -> None:
    listed = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"])
    assert listed.exit_code == 0
    for name in COMMANDS:
        assert (f"│ {name} " in listed.output) != (name in HIDDEN)
        found = CliRunner().invoke(app, [name, "--help"])
        assert found.exit_code == 0, found.output
        assert f" {name} [" in found.output
    for name in ("run", "evidence", "checkpoint", "version"):
        assert f"│ {name} " in listed.output


def test_a_mistyped_command_is_told_its_neighbour() -> None:
    found = CliRunner().invoke(app, ["challengee"])
    assert found.exit_code == 2
    assert "'challenge'" in found.output


def test_what_is_not_called_is_not_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = done.stdout.split()
    assert "validator_node.cli.challenge" in loaded
    for name in ("cli.audit", "cli.db", "cli.challenge_replay", "config", "store", "network"):
        assert f"validator_node.{name}" not in loaded
