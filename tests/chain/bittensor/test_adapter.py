"""Opening and closing the adapter, and what it refuses before it begins."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.bittensor import Deadlines, SdkMissingError, Settings, open_bittensor
from chain.devchain.server import open_devchain
from chain.interface import Chain
from chain.watchdog import Limits
from tests.chain.bittensor.support import adapter, until
from tests.chain.devchain.support import NETUID, run_config, subnet


async def test_without_the_sdk_it_says_how_to_get_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SdkMissingError, match=r"pip install bittensor==11\.3\.0"):
        async with open_bittensor(["ws://127.0.0.1:1"], NETUID, cache_dir=tmp_path):
            pass


async def test_addresses_are_checked_before_anything_is_opened(tmp_path: Path):
    with pytest.raises(ValueError, match="chain endpoint 'finney'"):
        async with open_bittensor(["finney"], NETUID, cache_dir=tmp_path):
            pass


@pytest.mark.parametrize(
    "wrong",
    [
        {"poll_s": 0},
        {"poll_s": 120},
        {"first_pause_s": 0},
        {"first_pause_s": 61},
        {"return_lag_blocks": -1},
        {"limits": Limits(stale_s=5)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="want"):
        Settings(**wrong)


def test_a_deadline_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0 s"):
        Deadlines(read_s=0)


async def test_no_thread_outlives_it(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain:
        mine = f"chain-sdk {chain.url}"  # one of a test before may still be on its way out
        async with adapter(tmp_path, chain) as node:
            follows: Chain = node
            await follows.head()
            assert mine in _sdk_threads()
        with trio.fail_after(30):
            await until(lambda: mine not in _sdk_threads())


async def test_the_status_is_plain_and_readable_from_any_thread(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        head = await node.head()
        status = await trio.to_thread.run_sync(node.status)
    assert status.head >= head.number - 1
    assert (status.endpoint, status.health) == (chain.url, "healthy")
    assert all(type(count) is int for count in status.counts.values())
    assert 0 <= status.head_age_s < 30


def _sdk_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("chain-sdk ")]
