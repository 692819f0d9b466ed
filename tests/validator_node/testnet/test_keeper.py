"""The keeper's process: its proxies obey, and it ends what outlives the runner."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from validator_node import errors
from validator_node.testnet.fabric import ProxyFabric, choose
from validator_node.testnet.keeper import Keeper, end_wards
from validator_node.testnet.manifest import Manifest
from validator_node.testnet.timeline import OPEN, Condition

DEADLINE_S = 60.0
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]

pytestmark = pytest.mark.processes


async def hello_through(address: tuple[str, int]) -> bytes:
    """Return the first byte that comes through, or nothing when the connection is reset."""
    try:
        async with await trio.open_tcp_stream(*address) as stream:
            return bytes(await stream.receive_some(1))
    except (trio.BrokenResourceError, OSError):
        return b""


async def greet(stream: trio.SocketStream) -> None:
    await stream.send_all(b"!")


async def test_proxies_of_a_fabric_forward_and_cut(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        keeper = await Keeper.start(tmp_path / "keeper.log")
        fabric = await ProxyFabric.open(3, keeper)
        async with trio.open_nursery() as nursery:
            place = fabric.place(2)
            nursery.start_soon(partial(trio.serve_tcp, greet, place.port, host=place.host))
            assert fabric.dial(0, 2) != fabric.dial(1, 2) != (place.host, place.port)
            while await hello_through(fabric.dial(0, 2)) != b"!":
                await trio.lowlevel.checkpoint()
            await fabric.set_links({(0, 2): Condition("cut"), (1, 2): OPEN})
            assert await hello_through(fabric.dial(0, 2)) == b""
            assert await hello_through(fabric.dial(1, 2)) == b"!"
            await fabric.set_links({(0, 2): OPEN, (1, 2): OPEN})
            assert await hello_through(fabric.dial(0, 2)) == b"!"
            counts = await keeper.counts()
            assert counts.bytes >= 3
            assert counts.refused == 1
            nursery.cancel_scope.cancel()
        await fabric.close()
        await keeper.close()
    assert keeper.process.returncode == 0
    assert (tmp_path / "keeper.log").read_text() == ""


async def test_what_a_node_announces_leads_nowhere(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        keeper = await Keeper.start(tmp_path / "keeper.log")
        fabric = await ProxyFabric.open(2, keeper)
        announced = str(fabric.settings["external_addrs"]).split("/")
        with pytest.raises(OSError, match=r"refused|all attempts"):
            await trio.open_tcp_stream("127.0.0.1", int(announced[4].rstrip("']")))
        await fabric.close()
        await keeper.close()


async def test_the_keeper_ends_its_wards_when_the_runner_is_gone(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        keeper = await Keeper.start(tmp_path / "keeper.log")
        ward = await trio.lowlevel.open_process(SLEEPER)
        stranger = await trio.lowlevel.open_process(SLEEPER)
        await keeper.watch_over([psutil.Process(ward.pid)])
        await keeper.close()  # the runner's death closes the pipe just so
        assert await ward.wait() == -9
        assert stranger.poll() is None
        stranger.kill()
        await stranger.wait()


async def test_a_dead_keeper_is_reported(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        keeper = await Keeper.start(tmp_path / "keeper.log")
        keeper.process.kill()
        await keeper.process.wait()
        with pytest.raises(errors.TestnetError, match="keeper"):
            await keeper.counts()


def test_a_process_that_took_over_an_id_is_left_alone() -> None:
    with subprocess.Popen(SLEEPER) as sleeper:
        created = psutil.Process(sleeper.pid).create_time()
        assert end_wards([(sleeper.pid, created - 100)]) == 0
        assert sleeper.poll() is None
        assert end_wards([(sleeper.pid, created)]) == 1
        assert sleeper.wait(DEADLINE_S) == -9


def test_a_slow_link_needs_the_proxies() -> None:
    slow = {"at": 1, "kind": "slow_link", "node": 0, "delay_ms": 5}
    manifest = Manifest(event=(slow,))
    assert choose("auto", manifest) == ("proxy", "a slow link needs the proxies")
    assert choose("proxy", manifest) == ("proxy", "")
    with pytest.raises(
        errors.TestnetError, match="a slow link needs the proxies; use --fabric proxy"
    ):
        choose("namespaces", manifest)
