"""What a reader may rely on: short files, short functions, a first line that says what it is.

The figures are CONTRIBUTING's; a file or function that outgrows them is split, not excused.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50
PACKAGES = (
    "protocol",
    "consensus",
    "registry",
    "storage",
    "chain",
    "runtime",
    "challenges",
    "validator_node",
)
INDEX_HOST = re.compile(
    r"pypi\.org|pythonhosted\.org|pypi\.python\.org|registry\.npmjs|crates\.io|proxy\.golang"
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(root|home|Users|work)/")


@cache
def tracked() -> tuple[Path, ...]:
    """Return the tracked files that are there; skip outside a git checkout."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    names = listing.stdout.decode().split("\0")
    return tuple(ROOT / name for name in names if name and (ROOT / name).is_file())


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first line, number of lines), decorators and docstring included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(entry.lineno for entry in node.decorator_list)])
            assert node.end_lineno is not None
            yield node.name, first, node.end_lineno - first + 1


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{shown(path)}:{number}: {line.strip()[:80]}")
    return found


def test_files_are_short() -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in python_files()}
    assert lengths
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    found = [
        f"{shown(path)}:{line} {name}: {length} lines"
        for path in python_files()
        for name, line, length in functions(ast.parse(path.read_text()))
        if length > MAX_FUNCTION_LINES
    ]
    assert found == []


def test_how_functions_are_measured() -> None:
    source = (
        '@one\n@two(\n    3\n)\nasync def f():\n    """Doc."""\n\n    def g(): ...\n    return 1\n'
    )
    assert sorted(functions(ast.parse(source))) == [("f", 1, 9), ("g", 8, 1)]


def test_each_module_says_what_it_is() -> None:
    modules = [path for path in python_files() if shown(path).split("/")[0] in PACKAGES]
    assert len({shown(path).split("/")[0] for path in modules}) == len(PACKAGES)
    silent = [shown(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_no_file_names_a_package_index() -> None:
    assert lines_with(INDEX_HOST) == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


@pytest.mark.parametrize("folder", ["root", "home/someone", "work/main"])
def test_a_machine_path_is_recognised(folder: str) -> None:
    assert MACHINE_PATH.search(f"see /{folder}/x")
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/x")
