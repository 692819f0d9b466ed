"""What happens to honest operators, each on real processes: one manifest a mishap."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MANIFESTS = Path(__file__).parent / "manifests"
NAMES = ("lossy_links", "moved", "all_restart", "full_disk", "ip6", "names", "long_pause")
DEADLINE_S = 1_800

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.parametrize("name", NAMES)
def test_the_network_holds(name: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "validator_node", "testnet"),
            *("--manifest", str(MANIFESTS / f"{name}.toml")),
            *("--state-dir", str(tmp_path / "state"), "--report", str(report)),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    done = json.loads(report.read_text())
    assert done["violations"] == []
    assert done["submissions"]["finalised"] > 20
