"""The unmodified SDK, connected to a running devchain."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from chain.devchain.server import DevChain
from tests.chain.devchain.support import NETUID, PAIRS

bt = importlib.import_module("bittensor")
result = importlib.import_module("bittensor.result")

DEADLINE_SECONDS = 30
T = TypeVar("T")


class Wallet:
    """What the SDK wants of a wallet: one key for everything."""

    def __init__(self, who: int) -> None:
        self.hotkey = self.coldkey = self.coldkeypub = PAIRS[who]


def close(sdk: Any) -> None:
    """Close the SDK and the event loop that it leaves open."""
    sdk.close()
    runner = sdk._loop_thread
    if runner is not None:
        runner._thread.join(DEADLINE_SECONDS)
        runner._loop.close()


async def with_sdk(chain: DevChain, work: Callable[[Any], T]) -> T:
    """Return what `work` makes of a connected SDK, in a thread and before a deadline."""

    def connected_work() -> T:
        sdk = bt.Subtensor(chain.url)
        try:
            return work(sdk)
        finally:
            close(sdk)

    with trio.fail_after(DEADLINE_SECONDS):
        return await trio.to_thread.run_sync(connected_work, abandon_on_cancel=True)


def set_weights(who: int, weights: dict[int, float], **options: Any) -> Callable[[Any], Any]:
    intent = bt.SetWeights(NETUID, weights=weights, **options)
    return lambda sdk: sdk.execute(intent, Wallet(who), retries=0)


async def refused(chain: DevChain, work: Callable[[Any], Any]) -> Any:
    """Return the `ChainError` with which the SDK gives up, raised or in its result."""
    try:
        found = await with_sdk(chain, work)
    except result.ChainError as error:
        return error
    assert not found.success
    return found.error
