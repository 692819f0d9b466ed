"""The tool itself: which mutants there are, that a test kills them, and that a survivor is told of.

`slow`: no bound of the modules that agreement rests on may be broken unnoticed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import EXPLAINED
from tests.mutation.changes import MODULE_LEVEL, mutants_of
from tests.mutation.subjects import MODULES
from tests.mutation.subjects import tests_of as files_of

ROOT = Path(__file__).parents[2]

MODULE = """
from functools import cached_property

LIMIT = 3


def fits(size: int = 0) -> bool:
    if not isinstance(size, int):
        raise TypeError(f"{size != 1}")
    return 0 < size <= LIMIT


class Box:
    def __init__(self, sizes: list) -> None:
        self.sizes = sizes

    @cached_property
    def full(self) -> bool:
        return len(self.sizes) == 2 or any(size + 1 > 9 for size in self.sizes)


def spin(count: int) -> int:
    while count > 1:
        count -= 1
    return count
"""
THOROUGH = """
import pytest

import sample
from sample import LIMIT, Box, fits


def test_fits():
    assert [fits(size) for size in range(5)] == [False, True, True, True, False]
    assert LIMIT == 3
    with pytest.raises(TypeError):
        fits("1")


@pytest.mark.parametrize(("sizes", "full"), [([1], 0), ([1, 1], 1), ([9], 1), ([8], 0)])
def test_full(sizes, full):
    assert Box(sizes).full == full


def test_spin():
    assert [sample.spin(4), sample.spin(2)] == [1, 1]
"""
BLIND = THOROUGH.replace("range(5)", "range(3)").replace(", True, False]", "]")
"""What is just as large as allowed is not asked about."""


def mutate(folder: Path, tests: str, *options: str, explained: dict[str, str]):
    """Run the tool over `MODULE`, in a process of its own."""
    (folder / "sample.py").write_text(MODULE)
    (folder / "test_sample.py").write_text(tests)
    (folder / "explained.json").write_text(json.dumps(explained))
    command = [sys.executable, "-m", "tests.mutation", "sample.py", "--tests", "test_sample.py"]
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [*command, "--explained", "explained.json", *options],
        cwd=folder, env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_which_changes_there_are() -> None:
    found = [(one.scope, one.change) for one in mutants_of("sample.py", MODULE)]
    assert found == [
        (MODULE_LEVEL, "3 -> 2"), (MODULE_LEVEL, "3 -> 4"),
        ("fits", "not -> nothing"),
        ("fits", "< -> <="), ("fits", "<= -> <"), ("fits", "0 -> -1"), ("fits", "0 -> 1"),
        ("Box.full", "or -> and"), ("Box.full", "== -> !="),
        ("Box.full", "2 -> 1"), ("Box.full", "2 -> 3"),
        ("Box.full", "> -> >="), ("Box.full", "+ -> -"),
        ("Box.full", "9 -> 8"), ("Box.full", "9 -> 10"), ("Box.full", "1 -> 0"),
        ("Box.full", "1 -> 2"),
        ("spin", "> -> >="), ("spin", "1 -> 0"), ("spin", "1 -> 2"),
        ("spin", "- -> +"), ("spin", "1 -> 0"), ("spin", "1 -> 2"),
    ]  # fmt: skip


def test_a_mutant_is_named_by_what_it_changes_and_not_by_its_line() -> None:
    one, other = (mutants_of("sample.py", text) for text in (MODULE, "\n\n" + MODULE))
    assert [mutant.key for mutant in one] == [mutant.key for mutant in other]
    assert len({mutant.key for mutant in one}) == len(one)
    twice = mutants_of("x.py", "def f(a):\n    return a > 5 and not a > 5\n")
    assert [mutant.key for mutant in twice if mutant.change == "> -> >="] == [
        "x.py: f: a > 5: > -> >=", "x.py: f: a > 5: > -> >= #2",
    ]  # fmt: skip


def test_tests_of_both_sides_of_each_bound_kill_every_mutant(tmp_path: Path) -> None:
    done = mutate(tmp_path, THOROUGH, explained={})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "survives" not in done.stdout
    [figures] = [line for line in done.stdout.splitlines() if line.startswith("sample.py: ")]
    assert figures == "sample.py: 23 mutants, 21 killed, 2 timed out, 0 explained, 0 survive"


def test_a_survivor_is_told_of_unless_it_is_explained(tmp_path: Path) -> None:
    only = ("--only", "fits")
    done = mutate(tmp_path, BLIND, *only, explained={})
    assert done.returncode == 1
    survivor = "fits: `0 < size <= LIMIT`: <= -> <"
    assert f"survives: sample.py:10 {survivor}" in done.stdout.splitlines()
    key = "sample.py: fits: 0 < size <= LIMIT: <= -> <"
    done = mutate(tmp_path, BLIND, *only, explained={key: "nobody sends three"})
    assert done.returncode == 0
    assert "survives" not in done.stdout
    assert "1 explained, 0 survive" in done.stdout


def test_tests_that_fail_anyway_prove_nothing(tmp_path: Path) -> None:
    done = mutate(tmp_path, THOROUGH.replace("== [1, 1]", "== [1, 0]"), explained={})
    assert done.returncode == 2
    assert "test_sample.py::test_spin fails without a mutant" in done.stdout


def test_each_explanation_is_of_a_mutant_that_there_is() -> None:
    explained = json.loads(EXPLAINED.read_text())
    paths = {key.split(": ")[0] for key in explained}
    known = {one.key for path in paths for one in mutants_of(path, (ROOT / path).read_text())}
    assert set(explained) <= known, "the code has changed: run the tool again"
    assert all(len(reason.split()) > 3 for reason in explained.values())


@pytest.mark.parametrize("path", MODULES)
def test_each_module_has_its_tests(path: str) -> None:
    assert all((ROOT / name).is_file() for name in files_of(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", MODULES)
def test_no_bound_is_broken_unnoticed(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation", path],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
