"""Each command against each damage of each thing that it reads.

Whatever is wrong: no trace back, an exit code of the table, one line on standard error, and nothing
written by a command that looks. The commands run in this process, so that there is time for all; a
share of them in processes is in `test_main`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import cycle
from pathlib import Path

import pytest
import structlog
import typer.main

from tests.validator_node.cli.damage import FILE_DAMAGES, FOLDER_DAMAGES, Damage
from tests.validator_node.cli.site import COMMANDS, Command, copy_site, make_site
from validator_node.cli.exit_codes import ExitCode

cli = import_module("validator_node.cli.main")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The undamaged site; the port that its node would listen on is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        folder = tmp_path_factory.mktemp("whole") / "site"
        make_site(folder, port=taken.getsockname()[1])
        yield folder


@pytest.fixture
def site(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be filled by `fresh`; logs and caches stay in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in list(os.environ):
        if name.startswith("VALIDATOR_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path / "site"
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def fresh(whole: Path, site: Path) -> None:
    if site.exists():
        shutil.rmtree(site)
    copy_site(whole, site)


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Return what a folder holds: each path with its mode and a hash of its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file() and status.st_size < 100_000_000:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.relative_to(folder).as_posix()] = (status.st_mode, content)
    return found


def cases(command: Command) -> list[tuple[str, str, Damage]]:
    """Return each damage of each thing that a command reads."""
    return [
        *((thing, how, damage) for thing in command.files for how, damage in FILE_DAMAGES.items()),
        *((t, how, damage) for t in command.folders for how, damage in FOLDER_DAMAGES.items()),
    ]


def share(command: Command) -> list[tuple[str, str, Damage]]:
    """Return a part of the damages; all commands together see each of them several times."""
    step = 16 if command.slow else 5
    found = [
        (thing, how, damage)
        for (how, damage), thing in zip(FILE_DAMAGES.items(), cycle(command.files), strict=False)
    ]
    found += [
        (thing, how, damage)
        for (how, damage), thing in zip(
            FOLDER_DAMAGES.items(), cycle(command.folders), strict=False
        )
    ]
    return found[COMMANDS.index(command) % step :: step]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(command: Command, site: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command in `site`; return its exit code and what it said on standard error."""
    capsys.readouterr()
    with inside(site):
        code = cli.run_command(list(command.words))
    return code, capsys.readouterr().err


def faults(command: Command, code: int, err: str, before: dict, after: dict) -> list[str]:
    """Return what a command did that it must not do."""
    found = []
    if code not in list(ExitCode):
        found.append(f"exit code {code}")
    if code == ExitCode.FAULT or "Traceback" in err:
        found.append(f"a trace back: {err[-300:]}")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if code >= ExitCode.DAMAGED and len(errors) != 1:
        found.append(f"exit code {code} with {len(errors)} lines of error: {err[:300]!r}")
    if code == ExitCode.BUSY:
        found.append(f"something was left open: {err}")
    if any(not character.isprintable() for character in err.replace("\n", "")):
        found.append(f"control characters: {err!r}")
    if command.looks and before != after:
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        found.append(f"wrote {sorted(changed)}")
    return found


def sweep(
    command: Command,
    chosen: list[tuple[str, str, Damage]],
    whole: Path,
    site: Path,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    found = []
    for thing, how, damage in chosen:
        fresh(whole, site)
        damage(site / thing)
        before = tree(site)
        code, err = run(command, site, capsys)
        told = faults(command, code, err, before, tree(site))
        found += [f"{' '.join(command.words[:2])}, {thing} {how}: {one}" for one in told]
    return found


def named(command: Command) -> str:
    return command.name


def test_no_command_is_forgotten() -> None:
    group = typer.main.get_command(cli.app)
    known = set()
    for name in group.list_commands(None):
        found = group.get_command(None, name)
        below = getattr(found, "commands", None)
        known |= {(name, sub) for sub in below} if below else {(name,)}
    known -= {(command.words[0],) for command in COMMANDS}
    assert known <= {command.words[:2] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_the_whole_site_is_no_mistake(
    command: Command, whole: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh(whole, site)
    before = tree(site)
    code, err = run(command, site, capsys)
    assert faults(command, code, err, before, tree(site)) == []


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_a_share_of_the_damages(
    command: Command, whole: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(command, share(command), whole, site, capsys) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_every_damage(
    command: Command, whole: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(command, cases(command), whole, site, capsys) == []
