"""The table of exit codes, and that documents, code and errors agree with it."""

from __future__ import annotations

import errno
import re
from importlib import import_module
from pathlib import Path

import pytest

from validator_node.cli import exit_codes
from validator_node.cli.exit_codes import ExitCode, exit_code_of
from validator_node.errors import ConfigError, NodeError
from validator_node.owner.publisher import ChangePendingError, ChangeRefusedError

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"(?m)^\| (\d+) \| ")
ERRORS = (
    "validator_node.errors",
    "validator_node.network.errors",
    "storage.errors",
    "storage.audit_log",
    "storage.record_store",
    "chain.errors",
    "chain.watchdog",
)


@pytest.mark.parametrize("text", ["module", "document"])
def test_each_code_is_in_both_tables(text: str) -> None:
    document = (ROOT / "docs" / "operators.md").read_text()
    told = ROW.findall(document if text == "document" else exit_codes.__doc__ or "")
    assert [int(code) for code in told] == [code.value for code in ExitCode]


def test_every_error_that_is_meant_for_people_has_a_code() -> None:
    kinds = {
        kind
        for name in ERRORS
        for kind in vars(import_module(name)).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == name
    }
    assert len(kinds) > 50
    missing = {kind.__name__ for kind in kinds if exit_code_of(kind.__new__(kind)) is None}
    assert missing == {"ResyncNeeded"}  # a turn of events


def test_the_words_for_publishing_are_the_tables() -> None:
    assert ChangeRefusedError.exit_code == ExitCode.REFUSED
    assert ChangePendingError.exit_code == ExitCode.UNDECIDED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.CONFIG),
        (NodeError("x"), ExitCode.NO),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.IO),
        (OSError(errno.ENOENT, "No such file", "name"), ExitCode.CONFIG),
        (OSError(errno.ECONNRESET, "Connection reset"), None),
        (OSError("without a number"), None),
        (ValueError("a fault"), None),
    ],
    ids=repr,
)
def test_what_an_error_leads_to(error: BaseException, code: ExitCode | None) -> None:
    assert exit_code_of(error) is code
