"""`validator-node owner` on the command line: what it prints and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from protocol.actions import RegistryChange
from protocol.codec import encode, sha256
from protocol.identity import ss58_of
from tests.challenges.folders import GOOD, wat_project
from tests.support import OWNER
from tests.validator_node.network.support import until
from tests.validator_node.owner.sites import Site, sites
from tests.validator_node.owner.test_release import write_vectors

WAIT_S = 40
OWNER_SEED = sha256(b"owner")


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    exit_code: int
    output: str


class Shell:
    """Runs commands as processes, against one node in this process."""

    def __init__(self, folder: Path, site: Site) -> None:
        project = wat_project(folder, GOOD)
        write_vectors(project)
        self.challenge = project.folder
        self._site = site
        self._genesis = folder / "genesis.bin"
        self._genesis.write_bytes(encode(site.world.genesis))
        self._key = folder / "key"
        self._key.touch(0o600)
        self._key.write_text(OWNER_SEED.hex())

    async def run(self, command: str, *words: str) -> Answer:
        options = ["--genesis", str(self._genesis), "--peer", self._site.network.addresses[0]]
        if command == "publish":
            options += ["--key", str(self._key)]
        done = await trio.run_process(
            [sys.executable, "-m", "validator_node", "owner", command, *words, *options],
            check=False,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
        return Answer(done.returncode, done.stdout.decode())


@asynccontextmanager
async def shell_of(folder: Path) -> AsyncIterator[tuple[Site, Shell]]:
    with trio.fail_after(WAIT_S):
        async with sites(folder, 1) as (site,):
            yield site, Shell(folder, site)


async def publish(shell: Shell, answers: list[Answer]) -> None:
    answers.append(await shell.run("publish", str(shell.challenge)))


async def ordered(site: Site) -> RegistryChange:
    """Wait for the owner's change and order it."""
    await until(lambda: site.pool)
    [change] = site.pool.held()
    site.decide()
    return change


async def test_a_version_is_published_and_shown(tmp_path: Path) -> None:
    async with shell_of(tmp_path) as (site, shell), trio.open_nursery() as nursery:
        answers: list[Answer] = []
        nursery.start_soon(publish, shell, answers)
        change = await ordered(site)
        waiting = await shell.run("status", "written")
        assert waiting.exit_code == 0
        assert "version 1 since slot 1, 0 of 4 reports" in waiting.output
        site.report(change.content.challenge)
        await until(lambda: answers)
        assert answers[0].exit_code == 0
        assert "written version 1: signed as change 1" in answers[0].output
        assert "version 1 is active with emission 1, by slot 2" in answers[0].output
        shown = await shell.run("status", str(shell.challenge))
        assert shown.exit_code == 0
        for words in (ss58_of(OWNER.public_key), "version 1, emission 1", "version 1: active"):
            assert words in shown.output


async def test_the_exit_code_tells_a_refusal_from_a_delay(tmp_path: Path) -> None:
    async with shell_of(tmp_path) as (site, shell), trio.open_nursery() as nursery:
        answers: list[Answer] = []
        nursery.start_soon(publish, shell, answers)
        change = await ordered(site)
        site.report(change.content.challenge, failure="any: trap, expected ok", signers=4)
        await until(lambda: answers)
        assert answers[0].exit_code == 3
        assert "error: written version 1: mismatch: run the vectors" in answers[0].output
        assert "vector any: trap, expected ok" in answers[0].output
        late = await shell.run("publish", str(shell.challenge), "--deadline", "1")
        assert late.exit_code == 4
        assert "not decided within 1 s" in late.output


async def test_what_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    async with shell_of(tmp_path) as (_, shell):
        unknown = await shell.run("status", "nobody")
        both = await shell.run("publish", "written", "--retire", "--emission", "3")
        nothing = await shell.run("publish", "written", "--retire")
    for answer, words in (
        (unknown, "never had a challenge 'nobody'"),
        (both, "--retire does not go with --emission"),
        (nothing, "none of this id to retire"),
    ):
        assert answer.exit_code == 1
        assert answer.output.startswith("error: ")
        assert words in answer.output
        assert answer.output.count("\n") == 1
