from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from validator_node import logs
from validator_node.errors import ConfigError

EVIL = "\x1b[2J[red]\nforged line\u202e"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the process back the logging it had."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def forget_what_waits() -> None:
    """Point the log's file elsewhere: its buffer still holds the line that found no room."""
    stream = logging.getLogger().handlers[0].stream  # type: ignore[attr-defined]
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def test_lines_for_people_obey_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.configure(None)
    structlog.get_logger("test").warning(EVIL, reason=EVIL, others=[EVIL])
    logging.getLogger("a library").error("said %s", EVIL)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert text.count("forged line") == 4
    assert text.count("\n") == 2
    assert set(text) - {"\n"} <= set(filter(str.isprintable, text))


def test_a_trace_back_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.configure(None)
    try:
        int("\x1b")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "Traceback (most recent call last):\n" in text
    assert "base 10: '\\x1b'\n" in text


def test_json_lines_are_ascii(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node.log"
    logs.configure(path)
    structlog.get_logger("test").warning("said", reason=EVIL)
    data = path.read_bytes()
    assert data.isascii()
    assert data.count(b"\n") == 1
    assert json.loads(data)["reason"] == EVIL


def test_a_log_file_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log", tmp_path / "a\0b"):
        with pytest.raises(ConfigError, match=r"log file .*: "):
            logs.configure(path)


def test_a_full_disk_loses_lines_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Path("/dev/full"))
    structlog.get_logger("test").warning("one")
    forget_what_waits()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_that_is_gone_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(None)
        structlog.get_logger("test").warning("one")
        forget_what_waits()
    assert capfd.readouterr().out == ""
