"""A running network takes version 2 of a challenge from its owner, and from nobody else.

Three real validators, one of which is down while the owner publishes; the version is a C example
with another message, built here.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from challenges.build import compile_project, write
from challenges.examples import FOLDER
from challenges.project import Project, load_project
from challenges.runner import Runner
from challenges.vectors import save_vector_file
from consensus.receipts import verify_receipt, voters_from
from protocol.actions import registry_topic
from protocol.codec import encode
from protocol.identity import verify_consensus
from protocol.records.challenge import Challenge
from protocol.records.result import Replicated
from tests.client import miner_client
from tests.client.test_client import NAIVE_FORECAST, NAIVE_SCORE, Network, kill, python
from tests.makers import replaced
from tests.support import STRANGER
from validator_node.network.network import open_network
from validator_node.owner.publisher import ask, connect, network_config, sign_change
from validator_node.owner.queries import RegistryQuery, RegistryReply
from validator_node.owner.release import Release, load_release
from validator_node.testnet import processes
from validator_node.testnet.layout import TestnetOptions, prepare
from validator_node.testnet.processes import Child

NAME = "series_forecast"
START_S = 60.0
PUBLISH_S = 60.0
SPREAD_S = 30.0
POLL_S = 0.2
AWAY = 2
"""The validator that is down for a while; the others' stake is a quorum."""

pytestmark = pytest.mark.processes


def second_version(folder: Path) -> Project:
    """Return the example with another message, as version 2."""
    shutil.copytree(FOLDER / NAME, folder)
    for name, old, new in (
        ("platform.toml", "version = 1", "version = 2"),
        ("vectors.json", '"version": 1', '"version": 2'),
        ("source/challenge.c", '"model error "', '"error of the model "'),
    ):
        text = (folder / name).read_text()
        assert text.count(old) == 1
        (folder / name).write_text(text.replace(old, new))
    project = load_project(folder)
    project = write(project, compile_project(project))
    with Runner(project) as runner:
        file = runner.vectors()
        answered = [runner.recorded(r.vector, r.outcome) for r in runner.run_vectors(file.vectors)]
    save_vector_file(project.vectors_path, file.model_copy(update={"vectors": tuple(answered)}))
    return project


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Network, list[Child]]]:
    """Run three linked validators; the miner is registered, but not started."""
    options = TestnetOptions(
        state_dir=folder, validators=3, miners=1, tempo=600, challenges=(NAME,)
    )
    layout, children = prepare(options), list[Child]()
    async with httpx.AsyncClient() as client:
        try:
            for site in layout.validators:
                children.append(await processes.start_validator(site))
            network = Network(layout, children, client)
            await network.until(lambda rows: all(row.get("links", 0) >= 2 for row in rows), START_S)
            yield network, children
        finally:
            with trio.CancelScope(shield=True):
                await kill(children)


async def nobody_elses_change_counts(network: Network, release: Release) -> None:
    """Publish what a stranger signed, and what only names the owner: both end at the first node."""
    genesis, peers = network.layout.genesis, (network.layout.validators[0].address,)
    assert release.challenge is not None
    foreign = sign_change(STRANGER, genesis.network_id, 1, release.challenge)
    forged = replaced(foreign, owner=genesis.owner)
    async with open_network(network_config(peers, "127.0.0.1")) as client:
        await connect(client, peers)
        topic = registry_topic(genesis.network_id)
        await client.wait_subscriber(topic)
        for change in (foreign, forged):
            await client.publish(topic, encode(change))
        rows = await network.until(
            lambda rows: (
                rows[0].get("changes_refused:not_owner") == 1
                and rows[0].get("changes_refused:bad_signature") == 1
            ),
            SPREAD_S,
        )
    assert [row["changes_waiting"] for row in rows] == [0, 0, 0]
    assert not any(name.startswith("changes_refused") for row in rows[1:] for name in row)


async def the_owner_publishes(network: Network, folder: Path) -> str:
    """Run the command, with all validators' addresses; return what it showed."""
    layout = network.layout
    keys = layout.validators[0].folder
    known = [word for site in layout.validators for word in ("--peer", site.address)]
    done = await trio.run_process(
        [
            *(sys.executable, "-m", "validator_node", "owner", "publish", str(folder), *known),
            *("--genesis", str(layout.genesis_file), "--key", str(keys / "keystore")),
            *("--passphrase-file", str(keys / "passphrase"), "--deadline", str(PUBLISH_S)),
        ],
        check=False,
        capture_stdout=True,
        capture_stderr=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.decode()


async def until_active(network: Network, node: int, wanted: Challenge) -> RegistryReply:
    """Ask one node until it has this version; the state of another process can only be polled."""
    peers = (network.layout.validators[node].address,)
    query = RegistryQuery(challenge_id=NAME)
    async with open_network(network_config(peers, "127.0.0.1")) as client:
        await connect(client, peers)
        with trio.fail_after(SPREAD_S):
            while True:
                reply = await ask(client, network.layout.genesis, peers, query)
                if reply.active == wanted:
                    return reply
                await trio.sleep(POLL_S)


async def a_submission_is_evaluated(network: Network, folder: Path) -> None:
    """Let a foreign miner submit; its receipt names version 2."""
    body = folder / "body"
    body.write_bytes(NAIVE_FORECAST)
    genesis = network.layout.genesis
    code, output, errors = await python(
        *(miner_client.__file__, "--node", network.layout.validators[AWAY].address),
        *("--network-id", genesis.network_id.hex(), "--seed", network.seed(0)),
        *("--challenge", NAME, "--body-file", str(body)),
    )
    assert code == 0, errors
    receipt = bytes.fromhex(json.loads(output)["receipt"])
    result = verify_receipt(receipt, voters_from(genesis), verify_consensus).result
    assert (result.challenge_id, result.challenge_version) == (NAME, 2)
    assert isinstance(result.basis, Replicated)
    assert (result.basis.outcome_class, result.basis.score) == ("ok", NAIVE_SCORE)


async def test_the_owners_version_becomes_active_everywhere(tmp_path: Path) -> None:
    project = await trio.to_thread.run_sync(second_version, tmp_path / NAME)
    release = await trio.to_thread.run_sync(load_release, project.folder)
    assert release.challenge is not None
    with trio.fail_after(180):
        async with running(tmp_path / "network") as (network, children):
            await nobody_elses_change_counts(network, release)
            await processes.kill(children[AWAY])
            shown = await the_owner_publishes(network, project.folder)
            assert "series_forecast version 2: signed as change 1" in shown
            assert "version 2 is active with emission 1" in shown
            children[AWAY] = await processes.start_validator(network.layout.validators[AWAY])
            await network.until(lambda rows: rows[AWAY].get("links", 0) >= 2, START_S)
            for node in range(3):
                reply = await until_active(network, node, release.challenge)
                assert (reply.sequence, reply.candidate) == (1, None)
            await a_submission_is_evaluated(network, tmp_path)
