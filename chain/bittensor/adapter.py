"""The chain behind the Bittensor SDK 11.3.0: `Chain` over endpoints that are watched.

Rules:
1. Every call has a deadline of its own; one that is not answered is `deadline` or `unreachable`,
   and costs the connection (`chain.bittensor.keeper`, `chain.watchdog`).
2. A call never tries twice, on no endpoint: who called reads first, then decides.
3. When the watchdog gives up, `ChainLostError` ends the block of `open_bittensor`: the node ends.
4. The SDK is imported in its own thread, at the first connection, and writes into `cache_dir` only.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from chain.bittensor import reads, writes
from chain.bittensor.endpoints import Endpoints
from chain.bittensor.keeper import Keeper
from chain.bittensor.reads import Substrate
from chain.bittensor.settings import ChainStatus, Settings
from chain.errors import ChainError
from chain.interface import (
    Block,
    EpochStatus,
    HotkeySigner,
    Metagraph,
    PendingCommit,
    Submitted,
    WeightVector,
)

T = TypeVar("T")

_CACHE_VARIABLE = "BITTENSOR_RUNTIME_CACHE_DIR"


class SdkMissingError(Exception):
    """The SDK is not installed; the message says how to get it."""


class BittensorChain:
    """A `Chain` on live endpoints; made by `open_bittensor`. See the module's rules."""

    def __init__(self, netuid: int, keeper: Keeper) -> None:
        self.netuid = netuid
        self._keeper = keeper
        self._deadlines = keeper.settings.deadlines

    @property
    def genesis_hash(self) -> bytes | None:
        """The genesis of the chain that is followed; None before the first connection."""
        return self._keeper.genesis_hash

    async def head(self) -> Block:
        """Return the newest finalised block of the endpoint in use."""
        return await self._read("reading the head", reads.finalised_head)

    async def metagraph(self, block_number: int) -> Metagraph:
        """Return the subnet at that finalised block; `unknown_block` beyond head or discarded."""
        work = partial(reads.metagraph, netuid=self.netuid, number=block_number)
        return await self._read(f"reading the metagraph of block {block_number}", work)

    async def epoch_status(self, block_number: int) -> EpochStatus:
        """Return the epoch at that finalised block; `unknown_block` beyond head or discarded."""
        work = partial(reads.epoch_status, netuid=self.netuid, number=block_number)
        return await self._read(f"reading the epoch of block {block_number}", work)

    async def weights_of(self, uid: int, mechanism: int = 0) -> WeightVector:
        """Return what is stored for `uid` at the finalised head."""
        work = partial(reads.weights_of, netuid=self.netuid, uid=uid, mechanism=mechanism)
        return await self._read(f"reading the weights of uid {uid}", work)

    async def last_update_of(self, uid: int, mechanism: int = 0) -> int:
        """Return the block of the last weights or commit of `uid` at the finalised head."""
        work = partial(reads.last_update_of, netuid=self.netuid, uid=uid, mechanism=mechanism)
        return await self._read(f"reading the last update of uid {uid}", work)

    async def weights_rate_limit(self) -> int:
        """Return the least distance in blocks between two weight calls of one hotkey."""
        work = partial(reads.weights_rate_limit, netuid=self.netuid)
        return await self._read("reading the rate limit", work)

    async def pending_commits(self, hotkey: bytes, mechanism: int = 0) -> tuple[PendingCommit, ...]:
        """Return the hotkey's commits that wait for their reveal at the finalised head."""
        work = partial(
            reads.pending_commits, netuid=self.netuid, hotkey=hotkey, mechanism=mechanism
        )
        return await self._read("reading the pending commits", work)

    async def set_weights(
        self,
        signer: HotkeySigner,
        vector: WeightVector,
        *,
        mechanism: int = 0,
        version_key: int = 0,
    ) -> Submitted:
        """Send `vector` and wait until its block is final; never tries twice.

        After `deadline` and `unreachable` it may still land, at the latest `CALL_LIFE_BLOCKS`
        after it was signed. A signer that raises or is not done in time is `signer_failed`.
        """
        writes.require_sendable(vector, mechanism, version_key)
        key = writes.SdkSigner(signer)
        work = partial(
            writes.set_weights,
            netuid=self.netuid,
            signer=key,
            vector=vector,
            mechanism=mechanism,
            version_key=version_key,
        )

        def blame_signer() -> ChainError | None:
            return writes.signer_failed(key) if key.unfinished else None

        return await self._keeper.call(
            "sending weights", work, self._deadlines.write_s, blame_elsewhere=blame_signer
        )

    def status(self) -> ChainStatus:
        """Return what metrics and the status page show; may be called from any thread."""
        return self._keeper.status()

    async def _read(self, what: str, work: Callable[[Substrate], Coroutine[Any, Any, T]]) -> T:
        return await self._keeper.call(what, work, self._deadlines.read_s)


@asynccontextmanager
async def open_bittensor(
    endpoints: Sequence[str],
    netuid: int,
    *,
    cache_dir: Path,
    genesis_hash: bytes | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[BittensorChain]:
    """Follow subnet `netuid` of the chain behind `endpoints` for as long as the block lasts.

    It does not wait for an endpoint: calls say `unreachable` until one answers. `genesis_hash`
    (32 bytes) is that of the chain to follow, by default that of the first endpoint that answers.
    `cache_dir` holds the SDK's copies of the runtime's metadata; it may be deleted at any time and
    holds for the whole process.

    Raises `ValueError` for settings that make no sense, `SdkMissingError` without the SDK, and
    later, from the block's end, an exception group with `ChainLostError`.
    """
    if importlib.util.find_spec("bittensor") is None:
        raise SdkMissingError(
            "the chain is configured as bittensor, whose SDK is not installed; run: "
            "pip install bittensor==11.3.0"
        )
    settings = settings or Settings()
    pauses = {"first_pause_s": settings.first_pause_s, "longest_pause_s": settings.longest_pause_s}
    keeper = Keeper(Endpoints(endpoints, **pauses), genesis_hash, settings)
    os.environ[_CACHE_VARIABLE] = str(cache_dir)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.watch)
            yield BittensorChain(netuid, keeper)
            nursery.cancel_scope.cancel()
    finally:
        await keeper.close()
