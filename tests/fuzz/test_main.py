"""The driver's command line, without fuzzing anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz import __main__ as driver
from tests.fuzz.targets import TARGETS


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["fuzz", *words])
    return driver.main()


def test_the_targets_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--list") == 0
    assert capsys.readouterr().out.split() == list(TARGETS)


def test_a_file_is_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "finding"
    file.write_bytes(b"\x91\x01")
    assert run(monkeypatch, "--target", "message", "--replay", str(file)) == 0
    assert capsys.readouterr().out == "message: refused, as documented\n"


def test_without_atheris_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert run(monkeypatch, "--target", "message") == 2
    assert "pip install atheris" in capsys.readouterr().err


def test_an_unknown_target_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert run(monkeypatch, "--target", "nonsense") == 2
    assert "no target nonsense" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(monkeypatch)
