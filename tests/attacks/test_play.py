"""A share of the attacks on a real network, as the command plays them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARE = ("gossip", "half-open", "huge-link")
SECONDS = "15"
DEADLINE_S = 600


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.attacks", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.processes
def test_a_share_of_the_attacks_holds() -> None:
    done = command(*SHARE, "--seconds", SECONDS, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)
    assert [(row["name"], row["verdict"]) for row in rows] == [(name, "held") for name in SHARE]
    for row in rows:
        assert row["under"]["settled"] == row["under"]["published"] > 0
        assert row["under"]["delivered"] == row["under"]["expected"]
        assert row["under"]["figures"]["offered"] > 0


def test_names_are_listed_and_checked() -> None:
    listed = command("--list")
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert listed.returncode == 0
    assert {"burst", "overload", "star", "silent-mesh", "unregistered", *SHARE} <= set(names)
    unknown = command("no-such-attack")
    assert unknown.returncode == 2
    assert "no attack no-such-attack; there are " in unknown.stderr
