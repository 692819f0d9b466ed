"""Run the golden scripts: each must say exactly what the engine does.

`GOLDEN_REWRITE=1 pytest tests/golden` writes what the engine does now into the scripts; read the
difference before you keep it.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from tests.golden.interpreter import run
from tests.golden.stage import StageError

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path):
    written = path.read_text()
    found = run(written)
    if os.environ.get("GOLDEN_REWRITE"):
        path.write_text(found)
        return
    if found != written:
        difference = difflib.unified_diff(
            written.splitlines(), found.splitlines(), "the script", "the engine", lineterm=""
        )
        pytest.fail("\n".join([path.name, *difference]), pytrace=False)


def test_there_are_enough_scripts_and_each_says_what_it_shows():
    assert len(SCRIPTS) >= 20
    for path in SCRIPTS:
        assert path.read_text().startswith("# "), path.name


def test_a_changed_line_and_a_broken_expectation_are_noticed():
    """The interpreter itself: a wrong line differs, a wrong expectation stops the script."""
    script = "# x\nvalidators: A=1\n\nA proposes x\n  A decides slot 1 y of view 0\n"
    assert run(script) != script
    assert "A decides slot 1 x of view 0" in run(script)
    with pytest.raises(StageError, match="line 5"):
        run("# x\nvalidators: A=1\n\nA proposes x\nexpect: A decided y\n")
    with pytest.raises(StageError, match="no such command"):
        run("validators: A=1\nA dances\n")
    with pytest.raises(StageError, match="nobody ever sent"):
        run("validators: A=1 B=1\nA receives COMMIT view 0 slot 1 x from B\n")
