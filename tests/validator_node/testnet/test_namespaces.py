"""Network namespaces: who reaches whom. Skipped where the machine has none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio

from validator_node import errors
from validator_node.testnet import leftovers
from validator_node.testnet.namespaces import Namespaces, why_no_namespaces
from validator_node.testnet.timeline import OPEN, Condition

DEADLINE_S = 60.0
WAIT_S = 1.5
SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 4001)) as server:
    print("r", flush=True)
    while True:
        connection, _ = server.accept()
        connection.close()
"""
CLIENT = f"""
import socket, sys
try:
    socket.create_connection((sys.argv[1], 4001), {WAIT_S}).close()
    print("reached")
except TimeoutError:
    print("silence")
except OSError:
    print("refused")
"""

OBSTACLE = why_no_namespaces()

pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE)


async def reach(fabric: Namespaces, source: int, target: int) -> str:
    command = [*fabric.prefix(source), sys.executable, "-c", CLIENT, fabric.dial(0, target)[0]]
    done = await trio.run_process(command, capture_stdout=True)
    return done.stdout.decode().strip()


async def test_partitions_are_silent_cuts_refuse_and_the_runner_reaches_all() -> None:
    with trio.fail_after(DEADLINE_S):
        fabric = await Namespaces.open(2)
        try:
            host = fabric.place(1).host
            server = await trio.lowlevel.open_process(
                [*fabric.prefix(1), sys.executable, "-c", SERVER, host], stdout=subprocess.PIPE
            )
            assert server.stdout is not None
            assert await server.stdout.receive_some(1) == b"r"
            assert await reach(fabric, 0, 1) == "reached"
            await fabric.set_links({(0, 1): Condition("hole")})
            assert await reach(fabric, 0, 1) == "silence"
            await (await trio.open_tcp_stream(host, 4001)).aclose()
            await fabric.set_links({(0, 1): Condition("cut")})
            assert await reach(fabric, 0, 1) == "refused"
            await fabric.set_links({(0, 1): OPEN})
            assert await reach(fabric, 0, 1) == "reached"
            with pytest.raises(errors.TestnetError, match="needs the proxies"):
                await fabric.set_links({(0, 1): Condition("open", 5.0)})
            server.kill()
            await server.wait()
            await server.stdout.aclose()
        finally:
            await fabric.close()
    assert leftovers.remove_run(os.getpid()) == []


def test_what_a_dead_runner_has_left_is_removed_and_nothing_else() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait(DEADLINE_S)
    name = leftovers.name_of(dead.pid, "n", 3)
    own = leftovers.name_of(os.getpid(), "n", 3)
    for space in (name, own):
        subprocess.run(["ip", "netns", "add", space], check=True)
    try:
        removed = leftovers.remove_dead()
        assert f"namespace {name}" in removed
        assert f"namespace {own}" not in removed
    finally:
        assert leftovers.remove_run(os.getpid()) == [f"namespace {own}"]


@pytest.mark.parametrize("name", ["eth0", "vt", "vtx1", "docker0", "vt12"])
def test_names_of_others_are_no_ones(name: str) -> None:
    assert leftovers.runner_of(name) is None


def test_a_name_tells_its_runner_and_fits_a_device() -> None:
    name = leftovers.name_of(4_194_304, "v", 23)
    assert leftovers.runner_of(name) == 4_194_304
    assert len(name) <= 15
