"""What reaches a terminal, and that nothing reaches it by another way."""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table

from validator_node.errors import OutputError
from validator_node.terminal import Terminal, say, say_json, say_lines, say_table

EVIL = "\x1b[2J[red]boo[/]\nforged\u202e"
SHOWN = r"\x1b[2J[red]boo[/]\nforged\u202e"
ROOT = Path(__file__).parents[2]
OWNERS = {"validator_node/terminal.py"}
"""The only modules that may write to a terminal."""
STREAMS = {"validator_node/logs.py", "validator_node/testnet/keeper.py"}
"""Those that may name standard output or error: a log handler of its own rules, a child's pipe."""


def test_a_line_is_one_line_and_obeys_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    say(EVIL, err=True)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"{SHOWN}\n")


def test_several_lines_obey_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    say_lines(EVIL)
    assert capsys.readouterr().out == SHOWN.replace(r"\n", "\n") + "\n"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"name": EVIL})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out


def test_tables_read_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = Table(f"head {EVIL}", title=f"title {EVIL}")
    table.add_row(f"cell {EVIL}")
    table.add_row(":smile: [not a tag] [/]")
    say_table(table)
    Terminal().print(f"line {EVIL}")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    for word in ("head", "title", "cell", "line"):
        assert rf"{word} \x1b[2J[red]boo[/]" in out
    assert ":smile: [not a tag] [/]" in out


def test_an_output_that_is_full_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (lambda: say("word"), lambda: say_json({}), lambda: say_table(Table("head"))):
        with (
            io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True) as full,
            monkeypatch.context() as patched,
        ):
            patched.setattr(sys, "stdout", full)
            with pytest.raises(OutputError, match="the output cannot be written: No space left"):
                write()


def modules() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted((ROOT / "validator_node").rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def test_nothing_else_writes_to_a_terminal() -> None:
    ways = {"typer.echo", "typer.secho", "click.echo", "print", "Console", "rich.print"}
    found = [
        f"{name}:{node.lineno} {called(node)}"
        for name, tree in modules()
        if name not in OWNERS
        for node in ast.walk(tree)
        if called(node) in ways
    ]
    assert found == []


def test_nothing_else_takes_the_standard_streams() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if name not in OWNERS | STREAMS
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    ]
    assert found == []


def test_a_styled_text_holds_words_of_ours_alone() -> None:
    """`Text` is shown as it is, so what comes from elsewhere must be given as a string."""
    found = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in modules()
        if name not in OWNERS
        for node in ast.walk(tree)
        if called(node) in {"Text", "Text.from_markup", "Text.from_ansi"}
        and not (node.args and isinstance(node.args[0], ast.Constant))
    ]
    assert found == []
