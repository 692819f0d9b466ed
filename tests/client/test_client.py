"""A client written from docs/protocol.md alone, against a real network of four processes."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import trio

from consensus.receipts import verify_receipt, voters_from
from protocol.identity import verify_consensus
from protocol.records.result import Replicated
from tests.client import miner_client, receipt_check
from validator_node.testnet import processes
from validator_node.testnet.layout import Layout, TestnetOptions, ValidatorSite, prepare
from validator_node.testnet.processes import Child, Figures

FOLDER = Path(__file__).parent
NAIVE_FORECAST = bytes.fromhex("01010000000000000100000100")
NAIVE_SCORE = 500_000
"""The naive forecast scores one half whatever the seed, says the challenge's README."""

LONG_BODY = bytes(6000)
"""Too long for gossip, taken by the example challenge `text_compression`, and no answer to it."""

POLL_S = 0.1
START_S = 40.0
CLIENT_S = 30.0

REFUSALS = {
    "malformed": 4,
    "wrong_network": 1,
    "wrong_topic": 1,
    "other_version": 1,
    "too_large": 1,
    "unregistered": 1,
    "body_mismatch": 1,
    "bad_signature": 3,
    "duplicate": 1,
}
"""What the bad messages come to; each message holds one refused submission."""

TOLD = {
    "wrong_network": "refused wrong_network",
    "wrong_topic": "refused wrong_topic",
    "other_version": "refused other_version",
    "too_large": "refused too_large",
    "unregistered": "refused unregistered",
    "body_mismatch": "refused body_mismatch",
    "flipped signature": "refused bad_signature",
    "wallet signature": "refused bad_signature",
    "unknown topic": "unknown",
}


class Network:
    """Four validators' processes and what their metrics say."""

    def __init__(self, layout: Layout, children: list[Child], client: httpx.AsyncClient) -> None:
        self.layout = layout
        self._children = children
        self._client = client

    def seed(self, miner: int) -> str:
        return json.loads(self.layout.miners[miner].config.read_text())["seed"]

    async def figures(self) -> list[Figures]:
        """Every validator's metrics; a validator that does not answer has none."""
        processes.check_alive(self._children)
        rows: list[Figures] = [{} for _ in self._children]

        async def read(index: int) -> None:
            site = self.layout.validators[index]
            rows[index] = await processes.figures(self._client, site) or {}

        async with trio.open_nursery() as nursery:
            for index in range(len(rows)):
                nursery.start_soon(read, index)
        return rows

    async def until(self, holds: Callable[[list[Figures]], bool], seconds: float) -> list[Figures]:
        """Wait until the metrics `hold`; the metrics of another process can only be polled."""
        rows: list[Figures] = []
        with trio.move_on_after(seconds):
            while True:
                rows = await self.figures()
                if holds(rows):
                    return rows
                await trio.sleep(POLL_S)
        raise AssertionError(f"not so after {seconds} s: {rows}")


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Network]:
    """Run four linked validators; the miners are registered, but not started."""
    # An epoch that outlasts the test: expiry and validator set stay as the client found them.
    layout = prepare(
        TestnetOptions(state_dir=folder / "network", validators=4, miners=2, tempo=600)
    )
    children: list[Child] = []
    async with httpx.AsyncClient() as client:
        try:
            async with trio.open_nursery() as nursery:
                for site in layout.validators:
                    nursery.start_soon(_start, site, children)
            network = Network(layout, children, client)
            await network.until(lambda rows: all(row.get("links", 0) >= 3 for row in rows), START_S)
            yield network
        finally:
            with trio.CancelScope(shield=True):
                await kill(children)


async def _start(site: ValidatorSite, children: list[Child]) -> None:
    children.append(await processes.start_validator(site))


async def kill(children: list[Child]) -> None:
    """End the validators and their evaluation workers at once."""
    workers = []
    for child in children:
        if child.process.poll() is None:
            workers += child.usage.children(recursive=True)
        await processes.kill(child)
    for worker in workers:
        if worker.is_running():
            worker.kill()
    _, alive = await trio.to_thread.run_sync(psutil.wait_procs, workers, 5)
    assert not alive


async def python(*arguments: str) -> tuple[int, str, str]:
    """Run a Python program; return its exit status, output and errors."""
    with trio.fail_after(CLIENT_S):
        done = await trio.run_process(
            [sys.executable, *arguments], check=False, capture_stdout=True, capture_stderr=True
        )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refusals(row: Figures) -> dict[str, float]:
    return {name.removeprefix("refused:"): n for name, n in row.items() if name[:8] == "refused:"}


async def a_submission_is_settled(
    network: Network, folder: Path, challenge: str, content: bytes, score: int
) -> bytes:
    """Run the client; return the receipt it printed, checked against what must come out."""
    body = folder / f"body of {challenge}"
    body.write_bytes(content)
    genesis = network.layout.genesis
    options = {
        "--node": network.layout.validators[0].address,
        "--network-id": genesis.network_id.hex(),
        "--seed": network.seed(0),
        "--challenge": challenge,
        "--body-file": str(body),
    }
    code, output, errors = await python(
        str(FOLDER / "miner_client.py"), *(word for pair in options.items() for word in pair)
    )
    assert code == 0, errors
    printed = json.loads(output)
    assert (printed["state"], printed["reason"]) == ("ended", "")
    data = bytes.fromhex(printed["receipt"])
    result = verify_receipt(data, voters_from(genesis), verify_consensus).result
    proved = receipt_check.check(data, await trio.Path(network.layout.genesis_file).read_bytes())
    assert proved[0].hex() == result.submission_id.hex() == printed["submission_id"]
    assert result.uid == network.layout.miners[0].uid
    assert isinstance(result.basis, Replicated)
    assert (result.basis.outcome_class, result.basis.score) == ("ok", score)
    return data


async def the_command_verifies_it(network: Network, folder: Path, receipt: bytes) -> None:
    """`receipt verify` accepts the receipt and refuses it with one byte flipped."""
    middle = len(receipt) // 2
    flipped = receipt[:middle] + bytes([receipt[middle] ^ 0xFF]) + receipt[middle + 1 :]
    answers: dict[str, tuple[int, str, str]] = {}

    async def verify(name: str, data: bytes) -> None:
        file = folder / name
        await trio.Path(file).write_bytes(data)
        command = ("-m", "validator_node", "receipt", "verify", str(file))
        genesis = str(network.layout.genesis_file)
        answers[name] = await python(*command, "--genesis", genesis)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(verify, "receipt", receipt)
        nursery.start_soon(verify, "flipped", flipped)
    code, output, errors = answers["receipt"]
    assert (code, errors) == (0, "")
    assert output.startswith("valid\n")
    assert f"outcome ok, score {NAIVE_SCORE}" in output
    code, output, errors = answers["flipped"]
    assert (code, output) == (1, "")
    assert "is not a valid receipt: " in errors


async def bad_input_is_refused(network: Network) -> None:
    """Every fault is refused, counted and told at node 0; the others never see it."""
    before = await network.figures()
    assert [refusals(row) for row in before] == [{}] * 4
    code, output, errors = await python(
        str(FOLDER / "bad_messages.py"),
        "--node",
        network.layout.validators[0].address,
        "--seed",
        network.seed(1),
    )
    assert code == 0, errors
    printed = json.loads(output)
    assert printed["told"] == TOLD
    assert len(set(printed["ended"])) == 2
    # The last good submission went the way of the bad ones, behind them: where it has arrived,
    # they would have arrived before it. (The long body may not have counted as accepted before:
    # whoever was still fetching it when others admitted it had nothing left to accept.)
    wanted = [row.get("accepted", 0) + 2 for row in before]
    rows = await network.until(
        lambda rows: [row.get("accepted") for row in rows] == wanted, CLIENT_S
    )
    assert refusals(rows[0]) == REFUSALS
    assert turned_away(rows[0]) - turned_away(before[0]) == sum(REFUSALS.values())
    for row, earlier in zip(rows[1:], before[1:], strict=True):
        assert refusals(row) == {}
        assert turned_away(row) == turned_away(earlier)


def turned_away(row: Figures) -> float:
    """Return the gossip messages not forwarded; at the start some node records come late."""
    kinds = ("check", "rejected", "useless")
    return sum(row.get(f"network:refused gossip_{kind}", 0) for kind in kinds)


@pytest.mark.processes
async def test_a_foreign_client_is_served_and_its_faults_are_refused(tmp_path: Path):
    with trio.fail_after(120):
        async with running(tmp_path) as network:
            receipt = await a_submission_is_settled(
                network, tmp_path, "series_forecast", NAIVE_FORECAST, NAIVE_SCORE
            )
            await a_submission_is_settled(network, tmp_path, "text_compression", LONG_BODY, 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(the_command_verifies_it, network, tmp_path, receipt)
                await bad_input_is_refused(network)
            rows = await network.until(lambda rows: all(r.get("settled") == 4 for r in rows), 20)
            assert all(row["pending"] == 0 for row in rows)


def test_the_clients_import_nothing_of_the_product():
    product = {"protocol", "consensus", "runtime", "registry", "storage", "chain", "challenges"}
    for name in ("miner_client.py", "bad_messages.py", "receipt_check.py"):
        for line in (FOLDER / name).read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in product | {"validator_node", "tests"}, line


def test_the_client_makes_the_documents_bytes():
    from tests.protocol.worked_example import values

    shown = values()
    pair = miner_client.Keypair.create_from_seed(shown["seed"])
    assert bytes(pair.public_key) == shown["hotkey"]
    submission = miner_client.Submission(
        network_id=shown["network-id"],
        challenge_id="series_forecast",
        hotkey=shown["hotkey"],
        expiry_epoch=300,
        body_hash=shown["body-hash"],
        body_size=len(shown["body"]),
    )
    assert miner_client.pack(submission.fields()) == shown["submission"]
    assert submission.id == shown["submission-id"]
    assert submission.payload == shown["signed-payload"]
    posted = [["admit", submission.fields(), shown["signature"]], shown["body"]]
    assert miner_client.message(posted) == shown["submission-message"]
    assert miner_client.topic_of(shown["network-id"], "series_forecast") == shown["topic"]
