"""The command line as processes: terminals that cannot show, readers that go, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.validator_node.databases import Node
from validator_node.cli.exit_codes import ExitCode
from validator_node.errors import ConfigError, NodeError, ToolSpokeError

pytestmark = pytest.mark.processes
DEADLINE_S = 120
cli = import_module("validator_node.cli.main")  # the package has a function of this name


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    made = Node(tmp_path_factory.mktemp("node"))
    made.fill(1)
    made.config()
    return made


def started(*words: str, **changes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "validator_node", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **changes},
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


@pytest.mark.parametrize(
    "changes",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
    ids=["ascii", "C"],
)
def test_a_terminal_that_cannot_show_the_characters(node: Node, changes: dict[str, str]) -> None:
    code, out, err = ended(started("metagraph", "--config", str(node.config()), **changes))
    assert (code, err) == (0, b"")
    assert out.isascii()
    assert b"hotkey" in out


def test_a_reader_that_goes_away_ends_it_quietly(node: Node) -> None:
    for words in (("metagraph", "--json"), ("metagraph",)):
        process = started(*words, "--config", str(node.config()))
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        code, _, err = ended(process)
        assert (code, err) == (ExitCode.READER_GONE, b"")


def test_an_output_that_is_full_is_one_line(node: Node) -> None:
    for words in (("metagraph", "--json"), ("metagraph",), ("audit", "show")):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "validator_node", *words, "--config", str(node.config())],
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=DEADLINE_S,
                check=False,
            )
        assert done.returncode == ExitCode.IO
        assert done.stderr == b"error: the output cannot be written: No space left on device\n"


def run(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> int:
    def app(*_: object, **__: object) -> None:
        action()

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(cli, "abandon_streams", lambda: None)  # pytest's streams go on
    return cli.run_command([])


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_an_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code, text in (
        (ConfigError("one\n\x1b[31mtwo"), ExitCode.CONFIG, "error: one\\n\\x1b[31mtwo\n"),
        (ToolSpokeError("one\n\x1btwo"), ExitCode.NO, "error: one\n\\x1btwo\n"),
        (PermissionError(13, "Permission denied", "/a\nb"), ExitCode.CONFIG, "error: /a\\nb: Perm"),
        (ExceptionGroup("", [ExceptionGroup("", [NodeError("x")])]), ExitCode.NO, "error: x\n"),
        (ExceptionGroup("", [ConfigError("x"), NodeError("y")]), ExitCode.CONFIG, "error: x\n"),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), ExitCode.INTERRUPTED, ""),
        (SystemExit(3), 3, ""),
    ):
        assert run(monkeypatch, raising(error)) == code
        assert capsys.readouterr().err.startswith(text)


def test_a_fault_of_ours_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = ExceptionGroup("", [ConfigError("x"), ValueError("y")])
    for error in (ValueError("y"), mixed):
        assert run(monkeypatch, raising(error)) == ExitCode.FAULT
        told = capsys.readouterr().err
        assert "ValueError: y" in told
        assert told.endswith("please report it with the lines above\n")
