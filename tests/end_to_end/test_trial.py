"""A short trial with real processes: a kill, a partition and a pause that take the quorum away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from validator_node.testnet import leftovers

MANIFEST = Path(__file__).parent / "manifests" / "short.toml"
DEADLINE_S = 480

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """Run the trial once; return its folder, its report and what it printed."""
    folder = tmp_path_factory.mktemp("trial")
    state, report = folder / "state", folder / "report.json"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "validator_node", "testnet", "--manifest", str(MANIFEST)),
            *("--state-dir", str(state), "--report", str(report), "--fabric", "proxy"),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return state, json.loads(report.read_text()), finished.stdout


def test_every_invariant_held(trial) -> None:
    _, report, output = trial
    assert report["violations"] == []
    assert "every invariant held" in output
    assert len({node["chain_hash"] for node in report["nodes"]}) == 1
    assert all(node["at_end"] == "up" for node in report["nodes"])
    assert report["submissions"]["finalised"] > 20


def test_every_step_was_performed_in_its_time(trial) -> None:
    _, report, _ = trial
    steps = [step for _, step in report["performed"]]
    assert steps == [
        "kill node 1",
        "partition 3|0,1,2",
        "kill ends node 1",
        "pause node 2",
        "partition ends 3|0,1,2",
        "pause ends node 2",
    ]
    for (at, _), planned in zip(report["performed"], [3, 8, 10, 14, 18, 19], strict=True):
        assert planned <= at < planned + 3


def test_the_one_that_was_cut_off_stood_still(trial) -> None:
    _, report, _ = trial
    assert [cut["side"] for cut in report["cut_off"]] == [[3]]


def test_nothing_is_left_on_the_machine(trial) -> None:
    state, _, _ = trial
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if any(str(state) in word for word in command)]
    assert [point for _, point in leftovers.mounts() if point.startswith(str(state))] == []


def test_the_manifest_and_the_report_are_kept_for_a_replay(trial) -> None:
    state, report, _ = trial
    assert json.loads((state / "report.json").read_text()) == report
    assert report["replay"].startswith("validator-node testnet --manifest ")
    assert (state / "manifest.toml").read_text().startswith('name = "short"')
