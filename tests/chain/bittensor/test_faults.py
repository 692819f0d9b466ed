"""Endpoints that are down, silent, stale, slow or of another chain: each drill ends in the state,
the count and the message that are documented.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.bittensor import Deadlines
from chain.bittensor.connection import CallFailedError, Connection
from chain.bittensor.reads import Substrate
from chain.bittensor.thread import SdkThread
from chain.devchain.server import DevChain, open_devchain
from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import Block
from chain.watchdog import Health, Limits
from tests.chain.bittensor.support import (
    IMPATIENT,
    Signer,
    adapter,
    lost,
    refusal,
    settings,
    shows,
    until,
)
from tests.chain.devchain.support import run_config, subnet

QUICK = Limits(stale_s=1.0, hopeless_s=20.0)
AHEAD = 2000
"""So many blocks lie between two development chains that stand for two nodes of one chain."""


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def two_endpoints() -> AsyncIterator[tuple[DevChain, DevChain]]:
    """Two chains of one genesis; the second one is ahead, so that its head is news."""
    async with (
        open_devchain(subnet(), run_config()) as first,
        open_devchain(subnet(), run_config()) as second,
    ):
        second.call("dev_jump", AHEAD)
        yield first, second


async def test_an_endpoint_that_is_down_at_start_is_passed_over(tmp_path: Path):
    dead = f"ws://127.0.0.1:{unused_port()}"
    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, dead, chain) as node,
    ):
        status = await shows(node, lambda one: one.health is Health.HEALTHY)
        assert await node.weights_of(1) == ()
    assert status.endpoint == chain.url
    assert status.counts["refused"] >= 1
    assert dead in status.last_reason


async def test_no_endpoint_at_start_is_said_at_once_and_mended_later(tmp_path: Path):
    port = unused_port()
    url = f"ws://127.0.0.1:{port}"
    async with adapter(tmp_path, url) as node:
        await shows(node, lambda one: one.counts["refused"] > 0)
        error = await refusal(node.head())
        assert error.code is Code.UNREACHABLE
        assert f"{url}: unreachable: connecting at {url}" in str(error)
        assert node.status().health is Health.REBUILDING
        async with open_devchain(subnet(), run_config(port=port)):
            status = await shows(node, lambda one: one.health is Health.HEALTHY)
    assert status.endpoint == url


async def test_what_the_sdk_says_of_an_address_is_told_without_its_key(tmp_path: Path):
    url = "ws://me:SECRET@127.0.0.1:1/SECRET?key=SECRET"
    thread = SdkThread("chain-sdk-test")
    connection = Connection(url, thread, object(), bytes(32), Block(0, bytes(32)))  # type: ignore[arg-type]

    async def refuse(_substrate: Substrate) -> None:
        raise ValueError(f"{url} isn't a valid URI")

    async def lose(_substrate: Substrate) -> None:
        raise ConnectionError(f"{url} is down")

    async def tell(_substrate: Substrate) -> None:
        raise ChainError(Code.SETTING_WEIGHTS_TOO_FAST, f"says {url}", wait_blocks=7)

    with trio.fail_after(20):
        error = await refusal(connection.call("reading", refuse, 10, 1))
        too_fast = await refusal(connection.call("sending", tell, 10, 1))
        with pytest.raises(CallFailedError) as down:
            await connection.call("reading", lose, 10, 1)
        thread.close()
        await thread.gone()
    assert "ws://127.0.0.1:1 isn't a valid URI" in str(error)
    assert "ws://127.0.0.1:1 is down" in str(down.value)
    assert (too_fast.code, too_fast.wait_blocks) == (Code.SETTING_WEIGHTS_TOO_FAST, 7)
    for one in (error, too_fast, down.value):
        assert "SECRET" not in "".join(traceback.format_exception(one))


async def test_endpoints_that_stay_down_end_the_process(tmp_path: Path):
    urls = [f"ws://127.0.0.1:{unused_port()}" for _ in range(2)]
    limits = Limits(stale_s=0.5, hopeless_s=1.0)

    async def follow() -> None:
        async with adapter(tmp_path, *urls, settings=settings(limits=limits)) as node:
            await shows(node, lambda one: one.health is Health.FAILED)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await follow()
    said = str(lost(caught.value))
    assert "no new finalised block for 1 s" in said
    assert all(url in said for url in urls)
    assert "The process ends so that its supervisor starts it afresh" in said


async def test_endpoints_that_accept_and_never_answer_end_the_process_too(tmp_path: Path):
    """Connecting takes longer than an endpoint's rest, so there is always one to connect to."""
    deadlines = Deadlines(connect_s=0.5, read_s=0.5, write_s=1, grace_s=1)
    limits = Limits(stale_s=1.0, hopeless_s=3.0)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in silent:
            one.bind(("127.0.0.1", 0))
            one.listen()
        urls = [f"ws://127.0.0.1:{one.getsockname()[1]}" for one in silent]

        async def follow() -> None:
            async with adapter(tmp_path, *urls, settings=settings(deadlines, limits)):
                await trio.sleep_forever()

        with pytest.raises(BaseExceptionGroup) as caught:
            await follow()
    said = str(lost(caught.value))
    assert all(f"connecting at {url} got no answer in 0.5 s" in said for url in urls)


async def test_a_half_open_socket_is_rebuilt_and_goes_on(tmp_path: Path):
    options = {"settings": settings(IMPATIENT)}
    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, chain, **options) as node,
    ):
        await shows(node, lambda one: one.health is Health.HEALTHY)
        chain.call("dev_set", "silent", True)
        error = await refusal(node.weights_of(1))
        assert error.code in (Code.DEADLINE, Code.UNREACHABLE)
        status = await shows(node, lambda one: one.health is not Health.HEALTHY)
        assert "got no answer in" in status.last_reason
        assert (status.counts["silent"], status.counts["rebuild"]) == (1, 1)
        chain.call("dev_set", "silent", False)
        status = await shows(node, lambda one: one.health is Health.HEALTHY)
        assert await node.weights_of(1) == ()
    assert status.counts["connected"] >= 2


async def test_a_half_open_endpoint_is_left_and_come_back_to(tmp_path: Path):
    options = {"settings": settings(IMPATIENT, return_lag_blocks=2 * AHEAD)}
    async with (
        two_endpoints() as (first, second),
        adapter(tmp_path, first, second, **options) as node,
    ):
        await shows(node, lambda one: one.endpoint == first.url and one.head >= 0)
        first.call("dev_set", "silent", True)
        status = await shows(
            node, lambda one: one.endpoint == second.url and one.health is Health.HEALTHY
        )
        assert status.counts["rebuild"] == 1
        first.call("dev_set", "silent", False)
        status = await shows(node, lambda one: one.endpoint == first.url)
        assert status.counts["returns"] == 1
        assert await node.weights_of(1) == ()


async def test_a_stale_endpoint_is_left_and_not_come_back_to(tmp_path: Path):
    options = {"settings": settings(limits=QUICK)}
    async with (
        two_endpoints() as (first, second),
        adapter(tmp_path, first, second, **options) as node,
    ):
        await shows(node, lambda one: one.endpoint == first.url and one.head >= 0)
        first.call("dev_set", "finality_paused", True)
        seen = await shows(node, lambda one: one.counts["stale"] > 0)
        assert seen.counts["fail_over"] == 1
        assert "no new finalised block for 1." in seen.last_reason
        await shows(node, lambda one: one.endpoint == second.url and one.health is Health.HEALTHY)
        status = await shows(node, lambda one: one.counts["refused"] > 0)
        assert status.endpoint == second.url
        assert "blocks behind the newest head" in status.last_reason
        assert status.counts["returns"] == 0


async def test_a_chain_that_halts_is_stale_and_ends_the_process(tmp_path: Path):
    limits = Limits(stale_s=0.5, hopeless_s=2.0)
    async with open_devchain(subnet(), run_config()) as chain:
        chain.call("dev_set", "blocks_paused", True)

        async def follow() -> None:
            async with adapter(tmp_path, chain, settings=settings(limits=limits)) as node:
                await shows(node, lambda one: one.health is Health.STALE)
                await shows(node, lambda one: one.health is Health.FAILED)
                await trio.sleep_forever()

        with pytest.raises(BaseExceptionGroup) as caught:
            await follow()
    assert f"no new finalised block for 2 s. {chain.url}" in str(lost(caught.value))


async def test_slow_answers_are_answers_and_too_slow_ones_are_not(tmp_path: Path):
    deadlines = Deadlines(connect_s=20, read_s=1.5, write_s=20, grace_s=2)
    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, chain, settings=settings(deadlines, poll_s=30)) as node,
    ):
        await node.head()
        chain.call("dev_set", "delay_ms", 100)
        assert await node.weights_of(1) == ()
        assert node.status().counts["silent"] == 0
        chain.call("dev_set", "delay_ms", 4000)
        error = await refusal(node.weights_of(1))
        status = node.status()
    assert error.code is Code.DEADLINE
    assert f"at {chain.url} got no answer in 1.5 s" in str(error)
    assert (status.health, status.counts["silent"]) == (Health.HALF_OPEN, 1)


async def test_an_endpoint_that_shakes_hands_and_says_no_more_leaves_no_socket(tmp_path: Path):
    deadlines = Deadlines(connect_s=0.5, read_s=1, write_s=1, grace_s=2)
    async with open_devchain(subnet(), run_config()) as chain:
        chain.call("dev_set", "delay_ms", 3000)
        async with adapter(tmp_path, chain, settings=settings(deadlines)) as node:
            status = await shows(node, lambda one: one.counts["refused"] > 1)
            assert "connecting at" in status.last_reason
            chain.call("dev_set", "delay_ms", 0)
            await shows(node, lambda one: (one.health, one.threads) == (Health.HEALTHY, 1))
        gc.collect()  # a socket that nobody closed would be a warning, which is an error here


async def test_a_wrong_chain_is_refused_by_name_and_passed_over(tmp_path: Path):
    async with (
        open_devchain(subnet(tempo=99), run_config()) as other,
        open_devchain(subnet(), run_config()) as ours,
    ):
        ours_hash = ours.ledger.genesis.hash
        async with adapter(tmp_path, other, ours, genesis_hash=ours_hash) as node:
            status = await shows(node, lambda one: one.health is Health.HEALTHY)
            assert (status.endpoint, status.counts["wrong_chain"]) == (ours.url, 1)
            assert status.last_reason.startswith(f"wrong_chain: {other.url} is of the chain")
            assert other.ledger.genesis.hash.hex() in status.last_reason
            assert ours_hash.hex() in status.last_reason
        async with adapter(tmp_path, other, genesis_hash=ours_hash) as node:
            await shows(node, lambda one: one.counts["wrong_chain"] > 0)
            assert (await refusal(node.head())).code is Code.WRONG_CHAIN


async def test_the_first_chain_that_answers_is_the_one_that_is_followed(tmp_path: Path):
    async with (
        open_devchain(subnet(), run_config()) as first,
        open_devchain(subnet(tempo=99), run_config()) as other,
        adapter(tmp_path, first, other, settings=settings(IMPATIENT)) as node,
    ):
        await node.head()
        assert node.genesis_hash == first.ledger.genesis.hash
        first.call("dev_set", "silent", True)
        await shows(node, lambda one: one.counts["wrong_chain"] > 0)
        assert node.genesis_hash == first.ledger.genesis.hash


async def test_a_call_on_its_way_survives_the_return_to_the_first(tmp_path: Path):
    dead = unused_port()
    run = run_config(finality_lag=3)
    async with (
        open_devchain(subnet(), run) as second,
        adapter(tmp_path, f"ws://127.0.0.1:{dead}", second) as node,
    ):
        await shows(node, lambda one: one.health is Health.HEALTHY)
        second.call("dev_set", "blocks_paused", True)
        done: list[Any] = []

        async def submit() -> None:
            done.append(await node.set_weights(Signer(1), ((2, 65535),)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await until(lambda: len(second.ledger.pool))
            async with open_devchain(subnet(), run_config(port=dead)) as first:
                first.call("dev_jump", AHEAD)
                await shows(node, lambda one: one.endpoint == first.url)
                assert not done
                second.call("dev_jump", 10)
                await until(lambda: done)
        assert node.status().counts["returns"] == 1


async def test_an_endpoint_that_restarts_goes_on(tmp_path: Path):
    run = run_config(state_file=tmp_path / "chain.bin", port=unused_port())
    async with adapter(tmp_path / "cache", f"ws://127.0.0.1:{run.port}") as node:
        async with open_devchain(subnet(), run):
            before = await shows(node, lambda one: one.health is Health.HEALTHY)
        async with open_devchain(subnet(), run):
            status = await shows(node, lambda one: one.head > before.head)
            await node.set_weights(Signer(1), ((2, 65535),))
    assert status.health is Health.HEALTHY


async def test_a_caller_that_goes_away_leaves_nothing_behind(tmp_path: Path):
    options = {"settings": settings(poll_s=30)}
    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, chain, **options) as node,
    ):
        await node.head()
        await shows(node, lambda one: one.in_flight == 0)
        chain.call("dev_set", "silent", True)
        with trio.move_on_after(0.2) as scope:
            await node.weights_of(1)
        assert scope.cancelled_caught
        assert node.status().in_flight == 0
        chain.call("dev_set", "silent", False)
        assert await node.weights_of(1) == ()
        assert node.status().counts["connected"] == 1
