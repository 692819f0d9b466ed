"""A JavaScript libp2p client that knows only docs/protocol.md, against four real validators.

The client's packages are installed once, by `npm ci` in a temporary copy. Where Node or npm is
absent, or where no registry can be reached, the tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.checkpoints import judge_by
from consensus.receipts import verify_receipt, voters_from
from protocol.codec import decode
from protocol.identity import verify_consensus
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from protocol.records.record_key import NEWEST, DhtKind, RecordKey
from protocol.records.result import Replicated
from tests.client.test_client import NAIVE_FORECAST, NAIVE_SCORE, Network, running
from tests.protocol.worked_example import values
from tests.support import World
from tests.validator_node.dht_support import Records, dht_nodes, dht_of
from validator_node.store import Store
from validator_node.testnet import processes

FOLDER = Path(__file__).parent / "js"
INSTALL_S = 180
UNIT_S = 60
CLIENT_S = 60
STABLE_S = 60
NODE = ("node", "--import", "./polyfill.js")
LEAST_NODE = (20, 19)
BROKEN_LOCK = ("EUSAGE", "EINTEGRITY", "ETARGET", "EJSONPARSE")
"""What npm says of a package or lock file that is wrong: a defect, no reason to skip."""
CHECKPOINT_HEIGHT = 20
"""The test network makes a checkpoint every 16 slots."""


def node_version() -> tuple[int, ...]:
    """The version of Node, or nothing if Node or npm is not there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return ()
    shown = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return tuple(int(part) for part in shown.stdout.strip().removeprefix("v").split(".")[:2])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the client with its packages installed."""
    if node_version() < LEAST_NODE:
        pytest.skip(f"Node {'.'.join(map(str, LEAST_NODE))} or newer with npm is not installed")
    folder = tmp_path_factory.mktemp("interop") / "js"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    try:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm ci did not install the packages in {INSTALL_S} s")
    if done.returncode != 0:
        assert not any(code in done.stderr for code in BROKEN_LOCK), done.stderr
        pytest.skip(f"npm ci could not install the packages: {done.stderr.strip()[-300:]}")
    return folder


def test_the_lock_names_exact_versions_and_no_registry() -> None:
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    lock = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert wanted == lock[""]["dependencies"]
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for path, package in lock.items():
        assert "resolved" not in package, path
        assert path == "" or package["integrity"].startswith("sha512-"), path


def test_the_client_makes_the_documents_bytes(client: Path) -> None:
    shown = {name: v.hex() if isinstance(v, bytes) else v for name, v in values().items()}
    done = subprocess.run(
        [*NODE, "--test"],
        cwd=client,
        env={**os.environ, "VALUES": json.dumps(shown)},
        capture_output=True,
        text=True,
        timeout=UNIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 3" in done.stdout
    assert "# skipped 0" in done.stdout


@asynccontextmanager
async def mining(network: Network) -> AsyncIterator[None]:
    """Let a miner of the product submit as well, so that slots and checkpoints follow."""
    miner = await processes.start_miner(network.layout.miners[1])
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await processes.kill(miner)


async def command(client: Path, *words: str) -> dict[str, Any]:
    """Run one of the client's commands; return what it printed."""
    with trio.fail_after(CLIENT_S):
        done = await trio.run_process(
            [*NODE, *words, "--deadline", str(CLIENT_S - 5)],
            cwd=client,
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )
    assert done.returncode == 0, done.stderr.decode()
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def of_nodes(addresses: Iterable[str]) -> list[str]:
    return [word for address in addresses for word in ("--node", address)]


async def submit(client: Path, network: Network) -> dict[str, Any]:
    """Submit with the JavaScript client, connected to every validator."""
    body = client / "body"
    body.write_bytes(NAIVE_FORECAST)
    layout = network.layout
    return await command(
        client,
        "miner.js",
        *of_nodes(site.address for site in layout.validators),
        *("--genesis", str(layout.genesis_file), "--seed", network.seed(0)),
        *("--challenge", "series_forecast", "--body-file", str(body)),
    )


def check_receipt(data: bytes, network: Network, submission_id: str) -> None:
    """The receipt proves the JavaScript miner's result."""
    result = verify_receipt(data, voters_from(network.layout.genesis), verify_consensus).result
    assert result.submission_id.hex() == submission_id
    assert result.uid == network.layout.miners[0].uid
    assert result.challenge_id == "series_forecast"
    assert isinstance(result.basis, Replicated)
    assert (result.basis.outcome_class, result.basis.score) == ("ok", NAIVE_SCORE)


def check_checkpoint(data: bytes, genesis: Genesis) -> None:
    """The checkpoint is certified by the validators of its epoch."""
    certificate = decode(CheckpointCertificate, data)
    checkpoint = certificate.checkpoint
    judge_by(voters_from(genesis)(checkpoint.epoch), certificate, verify_consensus)
    assert checkpoint.seq >= genesis.parameters.checkpoint_interval


@pytest.mark.processes
async def test_a_javascript_miner_is_served_and_reads_the_records(
    client: Path, tmp_path: Path
) -> None:
    with trio.fail_after(180):
        async with running(tmp_path) as network, mining(network):
            printed = await submit(client, network)
            assert (printed["state"], printed["reason"]) == ("ended", "")
            submission_id = printed["submission_id"]
            check_receipt(bytes.fromhex(printed["receipt"]), network, submission_id)
            await network.until(
                lambda rows: all(row.get("height", 0) >= CHECKPOINT_HEIGHT for row in rows),
                STABLE_S,
            )
            genesis = network.layout.genesis
            result = RecordKey.of(DhtKind.RESULT, genesis.network_id, bytes.fromhex(submission_id))
            newest = RecordKey.of(DhtKind.CHECKPOINT, genesis.network_id, NEWEST)
            nodes = of_nodes(site.address for site in network.layout.validators[1:3])
            keys = ("--key", str(result), "--key", str(newest))
            records = await command(client, "read.js", *nodes, *keys)
            check_receipt(bytes.fromhex(records[str(result)]), network, submission_id)
            check_checkpoint(bytes.fromhex(records[str(newest)]), genesis)


async def test_records_are_found_whoever_holds_them(client: Path, tmp_path: Path) -> None:
    """It knows one node, which holds nothing; another derives a record, and others were put."""
    records = Records(World(window=2, dispute_after=5))
    with closing(Store.open(tmp_path / "store", records.world.genesis, create=True)) as store:
        result_key, receipt = records.result(store)
    blob_key, blob = records.blob(b"not MessagePack \xff" * 4_000)
    newest_key, newest = records.checkpoint(16)
    with trio.fail_after(120):
        async with dht_nodes(records, tmp_path, 4) as (nodes, holders):
            holders[3].derived[result_key] = receipt
            for key, value in ((blob_key, blob), (newest_key, newest)):
                assert await dht_of(nodes[1]).put(key, value, deadline_s=20.0) > 0
            keys = [word for key in (result_key, blob_key, newest_key) for word in ("--key", key)]
            printed = await command(client, "read.js", *of_nodes(nodes[0].addresses), *keys)
    found = {key: bytes.fromhex(value) for key, value in printed.items()}
    assert found == {result_key: receipt, blob_key: blob, newest_key: newest}
