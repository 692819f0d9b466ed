"""Node processes: who is to end with the runner, and what a wipe leaves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import psutil
import pytest
import trio

from validator_node.testnet.keeper import Keeper
from validator_node.testnet.layout import TestnetOptions as Options
from validator_node.testnet.layout import change_settings, prepare
from validator_node.testnet.nodes import Nodes
from validator_node.testnet.processes import Child

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEADLINE_S = 60.0


class Wards:
    """Stands at the other end of the keeper's pipe and notes whom it is told of."""

    def __init__(self) -> None:
        self.pids: set[int] = set()

    async def watch_over(self, processes) -> None:
        self.pids = {process.pid for process in processes}


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Nodes, Wards]:
    layout = prepare(Options(state_dir=tmp_path / "net", validators=2, miners=1, observers=1))
    wards = Wards()
    return Nodes(layout, cast("Keeper", wards), lambda _: None), wards


async def sleeper(name: str, folder: Path) -> Child:
    return Child(name, folder / f"{name}.log", await trio.lowlevel.open_process(SLEEPER))


async def test_the_miners_stay_wards_when_a_node_starts_again(nodes, tmp_path: Path) -> None:
    those, wards = nodes
    with trio.fail_after(DEADLINE_S):
        miner = await sleeper("miner", tmp_path)
        await those.watch_over([miner])
        await those.start(0)
        assert wards.pids == {miner.process.pid, those.children[0].process.pid}
        first = those.children[0].process.pid
        await those.kill(0)
        await those.start(0)
        assert wards.pids == {miner.process.pid, those.children[0].process.pid} != {first}
        await those.pause(0)
        while psutil.Process(those.children[0].process.pid).status() != psutil.STATUS_STOPPED:
            await trio.lowlevel.checkpoint()
        await those.kill(0)
        miner.process.kill()
        await miner.process.wait()
    assert those.ended_unasked() == []


async def test_a_node_that_ends_by_itself_is_noticed_with_its_last_words(nodes) -> None:
    those, _ = nodes
    those.site(1).config.write_text("listen_port = 'x'\n")
    with trio.fail_after(DEADLINE_S):
        await those.start(1)
        await those.children[1].process.wait()
    assert those.ended_unasked() == [1]
    assert "ended with code 78: error: configuration" in those.end_of(1)


async def test_a_wipe_puts_everything_aside_but_the_marker(nodes) -> None:
    those, _ = nodes
    state = those.site(0).folder / "state"
    (state / "db").mkdir()
    with trio.fail_after(DEADLINE_S):
        await those.restart(0, wipe=True)
        await those.kill(0)
    assert [path.parent.name for path in those.journals(0)][-1] == "state-before-1"
    assert (those.site(0).folder / "state-before-1" / "db").is_dir()
    assert (state / "journal.marker").exists()


def test_observers_follow_the_validators_and_are_no_founders(nodes) -> None:
    those, _ = nodes
    assert [site.folder.name for site in those.sites] == [
        "validator-0",
        "validator-1",
        "observer-2",
    ]


def test_settings_change_and_the_others_stay(nodes) -> None:
    those, _ = nodes
    before = those.site(0).config.read_text()
    change_settings(those.site(0), {"clock_offset_ms": -5})
    assert those.site(0).config.read_text() == before + "clock_offset_ms = -5\n"
