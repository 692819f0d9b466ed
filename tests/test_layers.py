"""What import-linter cannot say: the consensus core needs nothing but Python and `protocol`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

CONSENSUS = Path(__file__).parent.parent / "consensus"
ALLOWED = {*sys.stdlib_module_names, "consensus", "protocol"}
FORBIDDEN_STDLIB = {
    "asyncio",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_consensus_imports_only_the_standard_library_and_protocol() -> None:
    modules = sorted(CONSENSUS.glob("*.py"))
    assert len(modules) > 10
    assert {path.name: imported(path) - ALLOWED for path in modules} == {
        path.name: set() for path in modules
    }


def test_consensus_has_no_clock_randomness_or_io() -> None:
    found = {path.name: imported(path) & FORBIDDEN_STDLIB for path in CONSENSUS.glob("*.py")}
    assert not any(found.values()), found
