"""Four validators and four miners in real processes, with a kill -9 of the primary under load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from storage.vow_audit import audit_vows
from tests.end_to_end.independent import emissions, expected_vector, settled_results

DURATION_S = 30
DEADLINE_S = 600

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """Run the network once; return its folder, its report and what it printed."""
    folder = tmp_path_factory.mktemp("network")
    report = folder / "report.json"
    state = folder / "state"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "validator_node", "testnet", "--kill-one"),
            *("--duration", str(DURATION_S), "--state-dir", str(state), "--report", str(report)),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return state, json.loads(report.read_text()), finished.stdout


def test_all_validators_hold_one_chain_and_one_state(network) -> None:
    _, report, _ = network
    validators = report["validators"]
    assert [entry["index"] for entry in validators] == [0, 1, 2, 3]
    assert len({entry["chain_hash"] for entry in validators}) == 1
    assert len({entry["state_root"] for entry in validators}) == 1
    assert len({entry["height"] for entry in validators}) == 1
    assert len({entry["peer_id"] for entry in validators}) == 4


def test_everything_submitted_was_settled_on_both_challenges(network) -> None:
    state, report, _ = network
    results = settled_results(state / "validator-2" / "state" / "db")
    assert report["evaluations_finalised"] == len(results) >= 300
    assert {result["outcome_class"] for result in results} == {"ok"}
    by_challenge = Counter(result["challenge_id"] for result in results)
    assert set(by_challenge) == {"text_compression", "series_forecast"}
    for miner in report["miners"]:
        assert miner["finalised"] > 0
        assert miner["finalised"] + miner["refused"] == miner["submitted"]


def test_the_vectors_equal_an_independent_aggregate(network) -> None:
    state, report, _ = network
    vectors = [entry["weights"] for entry in report["validators"]]
    assert all(vector == vectors[0] for vector in vectors)
    assert max(weight for _, weight in vectors[0]) == 65535
    results = settled_results(state / "validator-3" / "state" / "db")
    newest = max(result["epoch"] for result in results)
    mine = [result for result in results if result["epoch"] == newest]
    assert vectors[0] == expected_vector(mine, emissions(state / "genesis.bin"))


def test_nobody_signed_twice_and_the_view_changed(network) -> None:
    state, _, output = network
    assert "the primary, at height" in output
    for index in range(4):
        audit = audit_vows([state / f"validator-{index}" / "state" / "journal"])
        assert audit.clean
        assert audit.vows > 100


def test_miners_verified_their_receipts(network) -> None:
    state, report, _ = network
    assert sum(miner["receipts_verified"] for miner in report["miners"]) > 0
    reports = [json.loads(path.read_text()) for path in state.glob("miner-*/report.json")]
    submission_id, receipt = next(pair for done in reports for pair in done["receipts"].items())
    file = state / "receipt.bin"
    file.write_bytes(bytes.fromhex(receipt))
    genesis = str(state / "genesis.bin")
    command = [sys.executable, "-m", "validator_node", "receipt", "verify"]
    good = subprocess.run(
        [*command, str(file), "--genesis", genesis], capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stderr
    assert submission_id in good.stdout
    damaged = bytearray.fromhex(receipt)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(bytes(damaged))
    bad = subprocess.run(
        [*command, str(file), "--genesis", genesis], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 1
    assert "is not a valid receipt" in bad.stderr
