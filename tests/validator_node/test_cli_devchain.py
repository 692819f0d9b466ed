"""`validator-node devchain` as a process: it starts, survives `kill -9`, and ends on a signal."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.chain.devchain.support import ADDRESSES, connected
from validator_node.cli.exit_codes import ExitCode

pytestmark = pytest.mark.processes
READY = re.compile(r"devchain (ws://\S+) \(admin (ws://\S+)\): subnet (\d+), (\d+) neurons")


def command(*options: str) -> list[str]:
    words = (sys.executable, "-m", "validator_node", "devchain")
    return [*words, "--port", "0", "--block-time", "0.05", *options]


@asynccontextmanager
async def running(*options: str) -> AsyncIterator[tuple[trio.Process, re.Match[str]]]:
    """Start the command and yield it with what its first line says."""
    with trio.fail_after(30):
        process = await trio.lowlevel.open_process(command(*options), stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            line = b""
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
            ready = READY.search(line.decode())
            assert ready is not None, line
            yield process, ready
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdout.aclose()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
async def test_a_killed_chain_goes_on_from_its_file(tmp_path: Path, ending: signal.Signals) -> None:
    options = ("--state", str(tmp_path / "chain.bin"))
    async with running(*options) as (process, ready):
        assert (ready[3], ready[4]) == ("2", "4")
        async with connected(ready[1]) as client:
            await client.call("dev_set", "blocks_paused", True)
            head = await client.call("dev_jump", 10)
            block_hash = await client.call("chain_getBlockHash", head)
        process.kill()
    async with running(*options) as (process, ready):
        async with connected(ready[1]) as client:
            assert await client.call("chain_getBlockHash", head) == block_hash
        process.send_signal(ending)
        assert await process.wait() == 0


async def test_the_subnet_comes_from_a_file_and_options(tmp_path: Path) -> None:
    neurons = tmp_path / "subnet.toml"
    neurons.write_text(f'netuid = 5\n[rules]\ntempo = 9\n[[neurons]]\nhotkey = "{ADDRESSES[0]}"\n')
    options = ("--neurons", str(neurons), "--netuid", "6", "--mechanisms", "2")
    async with running(*options) as (_process, ready), connected(ready[2]) as client:
        assert (ready[3], ready[4]) == ("6", "1")
        assert (await client.call("dev_status"))["knobs"]["silent"] is False


async def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    with trio.fail_after(30):
        done = await trio.run_process(
            command("--neurons", str(tmp_path / "nowhere.toml")), check=False, capture_stderr=True
        )
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr.count(b"\n") == 1
    assert b"nowhere.toml: No such file" in done.stderr
