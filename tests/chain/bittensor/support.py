"""What the adapter's tests share: an impatient adapter, signers, and waiting for what it shows."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.bittensor import BittensorChain, ChainStatus, Deadlines, Settings, open_bittensor
from chain.devchain.server import DevChain
from chain.errors import ChainError
from chain.watchdog import ChainLostError, Limits
from tests.chain.devchain.support import KEYS, NETUID, PAIRS

importlib.import_module("bittensor")  # imported here, so that no deadline of a test pays for it

DEADLINE_SECONDS = 30
IMPATIENT = Deadlines(connect_s=1.5, read_s=1.0, write_s=10.0, grace_s=1.0)
PATIENT = Deadlines(connect_s=20.0, read_s=20.0, write_s=25.0, grace_s=2.0)


class Signer:
    """A hotkey of the test subnet."""

    def __init__(self, who: int) -> None:
        self.public_key = KEYS[who]
        self._pair = PAIRS[who]

    def sign(self, message: bytes) -> bytes:
        return bytes(self._pair.sign(message))


def settings(
    deadlines: Deadlines = PATIENT, limits: Limits | None = None, **changes: Any
) -> Settings:
    pauses = {"poll_s": 0.05, "first_pause_s": 0.05, "longest_pause_s": 0.2}
    return Settings(deadlines=deadlines, limits=limits or Limits(), **{**pauses, **changes})


@asynccontextmanager
async def adapter(
    cache_dir: Path, *chains: DevChain | str, **options: Any
) -> AsyncIterator[BittensorChain]:
    """Open the adapter on running development chains, or on addresses."""
    urls = [one if isinstance(one, str) else one.url for one in chains]
    options = {"settings": settings(), **options}
    with trio.fail_after(DEADLINE_SECONDS):
        async with open_bittensor(urls, NETUID, cache_dir=cache_dir, **options) as chain:
            yield chain


async def shows(chain: BittensorChain, wanted: Callable[[ChainStatus], bool]) -> ChainStatus:
    """Return the first status that is as wanted; the caller has a deadline around it."""
    while True:
        status = chain.status()
        if wanted(status):
            return status
        await trio.sleep(0.01)


async def until(happened: Callable[[], object]) -> None:
    """Return when it has happened; the caller has a deadline around it."""
    while True:
        if happened():
            return
        await trio.sleep(0.01)


async def refusal(work: Any) -> ChainError:
    """Return the `ChainError` that an awaitable ends with."""
    with pytest.raises(ChainError) as caught:
        await work
    return caught.value


def lost(group: BaseException) -> ChainLostError:
    """Return the one `ChainLostError` of a group and the groups in it."""
    while isinstance(group, BaseExceptionGroup):
        (group,) = group.exceptions
    assert isinstance(group, ChainLostError)
    return group
