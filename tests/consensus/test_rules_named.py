"""Each rule of the protocol stands in a module that keeps it, and is named by a test.

Rules that other layers keep are listed with the module that does.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT_IN_CONSENSUS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 18, 19, 20)
KEPT_ELSEWHERE = {
    8: ("storage/journal.py", "the journal may lose its last group only; else an observer"),
    14: ("validator_node/batch_check.py", "a batch is valid without the replicated state"),
    15: ("registry/submissions.py", "admit, evaluate, settle"),
    16: ("protocol/actions.py", "each action once"),
    17: ("registry/epochs.py", "time is computed at execution"),
    20: ("validator_node/links.py", "frames, and whose link a vote comes from"),
}
"""Rule 20 is shared: the engine refuses foreign votes, the links know whose link it is."""


def headers() -> dict[str, str]:
    """Return module -> docstring of everything in consensus/."""
    files = (ROOT / "consensus").glob("*.py")
    return {path.name: ast.get_docstring(ast.parse(path.read_text())) or "" for path in files}


def rules_of(header: str) -> set[int]:
    """Return the rules that a module's header states: `7. ...` or `Rule 18: ...`."""
    stated = re.findall(r"^(\d+)\. ", header, re.MULTILINE)
    return {int(number) for number in [*stated, *re.findall(r"\bRule (\d+)\b", header)]}


def rules_named_by_tests() -> dict[int, list[str]]:
    """Return rule -> the tests and golden scripts that name it."""
    named: dict[int, list[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words = f"{node.name} {ast.get_docstring(node) or ''}"
                for number in re.findall(r"\brules?[ _](\d+)|_rule_(\d+)", words):
                    named.setdefault(int("".join(number)), []).append(node.name)
    for path in (ROOT / "tests" / "golden").glob("*.txt"):
        opening = path.read_text().split("\n\n", 1)[0]
        for words in re.findall(r"rules? ([\d, and]+)", opening):
            for number in re.findall(r"\d+", words):
                named.setdefault(int(number), []).append(path.name)
    return named


@pytest.mark.parametrize("rule", KEPT_IN_CONSENSUS)
def test_a_module_states_the_rule_it_keeps(rule: int):
    keepers = [name for name, header in headers().items() if rule in rules_of(header)]
    assert keepers, f"no module of consensus/ states rule {rule}"


@pytest.mark.parametrize("rule", KEPT_IN_CONSENSUS)
def test_a_test_names_the_rule(rule: int):
    assert any(name.startswith("test_") for name in rules_named_by_tests().get(rule, []))


def test_every_rule_is_kept_somewhere():
    assert set(KEPT_IN_CONSENSUS) | set(KEPT_ELSEWHERE) == set(range(1, 21))


@pytest.mark.parametrize("rule", KEPT_ELSEWHERE)
def test_the_module_that_keeps_it_elsewhere_exists(rule: int):
    assert (ROOT / KEPT_ELSEWHERE[rule][0]).is_file()


def test_no_rule_beyond_the_twenty_is_stated():
    for name, header in headers().items():
        assert rules_of(header) <= set(range(1, 21)), name


def test_every_golden_script_says_which_rule_it_shows():
    scripts = {path.name for path in (ROOT / "tests" / "golden").glob("*.txt")}
    named = {name for names in rules_named_by_tests().values() for name in names}
    assert scripts <= named
