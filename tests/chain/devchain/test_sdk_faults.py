"""The unmodified SDK against the running chain: what it survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.devchain.server import open_devchain
from tests.chain.devchain.sdk import (
    DEADLINE_SECONDS,
    T,
    bt,
    close,
    refused,
    set_weights,
    with_sdk,
)
from tests.chain.devchain.support import (
    ADDRESSES,
    NETUID,
    NEWCOMER,
    run_config,
    signed,
    subnet,
)

pytestmark = pytest.mark.usefixtures("sdk_home")


async def test_a_retracted_block_is_an_error_to_the_sdk():
    async with open_devchain(subnet(), run_config(finality_lag=50)) as chain:

        async def reorganise() -> None:
            while not chain.ledger.head.state.weights_of(1, 0):
                await chain.reached(chain.ledger.head.number + 1)
            chain.call("dev_reorg", 1, True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reorganise)
            error = await refused(chain, set_weights(1, {0: 1.0}))
        assert "retracted" in str(error).lower()
        assert chain.ledger.head.state.weights_of(1, 0) == ()


async def test_an_injected_error_reaches_the_caller():
    async with open_devchain(subnet(), run_config()) as chain:
        method, words = "author_submitAndWatchExtrinsic", "Transaction is outdated"
        chain.call("dev_failNext", method, 1010, "Invalid Transaction", words)
        error = await refused(chain, set_weights(1, {0: 1.0}))
        assert error.name == "Stale"
        assert (await with_sdk(chain, set_weights(1, {0: 1.0}))).success


async def test_a_re_registered_uid_has_a_new_hotkey_and_no_weights():
    def work(sdk: Any) -> Any:
        graph = sdk.subnets.metagraph(NETUID)
        return graph.neuron(2).hotkey, sdk.read("weights", netuid=NETUID)

    async with open_devchain(subnet(), run_config()) as chain:
        chain.ledger.submit(signed(chain.ledger, 1))
        chain.call("dev_jump", 1)
        chain.call("dev_replace", 2, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
        hotkey, weights = await with_sdk(chain, work)
    assert hotkey == ADDRESSES[NEWCOMER]
    assert weights == {1: {0: 1.0, 2: 0.0}}


async def test_the_sdk_survives_a_half_open_socket(sdk_home: Path):
    async with open_devchain(subnet(), run_config()) as chain:

        def work(sdk: Any) -> int:
            assert sdk.block >= 0
            trio.from_thread.run_sync(chain.call, "dev_set", "silent", True)
            trio.from_thread.run_sync(asked.set)
            return int(sdk.block)

        asked = trio.Event()
        with trio.move_on_after(DEADLINE_SECONDS) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(with_sdk, chain, work)
                await asked.wait()
                with trio.move_on_after(0.3):
                    await trio.sleep_forever()
                assert nursery.child_tasks
                chain.call("dev_set", "silent", False)
        assert not deadline.cancelled_caught
    assert (sdk_home / "runtime-cache").is_dir()


async def test_the_sdk_goes_on_after_the_endpoint_was_restarted(tmp_path: Path):
    run = run_config(state_file=tmp_path / "chain.bin")

    async def in_thread(work: Callable[[Any], T]) -> T:
        with trio.fail_after(DEADLINE_SECONDS):
            return await trio.to_thread.run_sync(lambda: work(sdk), abandon_on_cancel=True)

    async with open_devchain(subnet(), run) as chain:
        port = chain.port
        sdk = bt.Subtensor(chain.url)
        before = await in_thread(lambda one: one.block)
        assert (await in_thread(set_weights(1, {0: 1.0}))).success
    async with open_devchain(subnet(), run.model_copy(update={"port": port})) as chain:
        assert await in_thread(lambda one: one.block) > before
        assert await in_thread(lambda one: one.read("weights", netuid=NETUID)) == {1: {0: 1.0}}
        assert (await in_thread(set_weights(2, {0: 1.0}))).success
        await trio.to_thread.run_sync(close, sdk)
