"""Reads the chain for a submission: with a deadline each, and again when they fail for a while.

Rules:
1. Every read has a deadline: a half-open connection must not stop a validator.
2. What may pass is tried again after a growing pause, `attempts` times in a row at most.
3. Waiting for a block is asking for the head every `poll_s`: all that the interface offers, so that
   an adapter needs no subscription.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from chain.errors import ChainError, ChainErrorCode, Retry
from chain.interface import Block, Chain, EpochStatus, Metagraph
from chain.submission_state import Evidence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """What was read for one hotkey and mechanism. The metagraph is that of `head`."""

    head: Block
    metagraph: Metagraph
    epoch: EpochStatus
    rate_limit: int
    evidence: Evidence

    def key_for(self, asked: int | None) -> int:
        """Return the version key of a call: `asked`, for None what the subnet asks for now."""
        return self.metagraph.rules.version_key if asked is None else asked


@dataclass(frozen=True, slots=True)
class ChainReader:
    """Reads `chain`. `call_deadline_s` bounds each read; see the module's rules for the rest."""

    chain: Chain
    call_deadline_s: float
    poll_s: float
    longest_pause_s: float
    attempts: int

    async def view(self, hotkey: bytes, mechanism: int) -> View:
        """Return what the chain shows now; raises `ChainError` when it does not answer."""
        return await self.reading(lambda: self._view(hotkey, mechanism))

    async def evidence(self, hotkey: bytes, mechanism: int) -> Evidence:
        """Return the part of the view that judges a submission."""
        return (await self.view(hotkey, mechanism)).evidence

    async def present_epoch(self) -> EpochStatus:
        """Return the epoch of the newest final block."""

        async def read() -> EpochStatus:
            head = await self.chain.head()
            return await self.chain.epoch_status(head.number)

        return await self.reading(read)

    async def pass_blocks(self, block: int) -> None:
        """Return when the head has reached `block`."""
        while (await self.reading(self.chain.head)).number < block:  # noqa: ASYNC110 - rule 3
            await trio.sleep(self.poll_s)

    async def reading(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` reads (rules 1 and 2)."""
        failed = 0
        while True:
            try:
                return await bounded("a read", self.call_deadline_s, read)
            except ChainError as error:
                failed += 1
                if error.code.retry is not Retry.BACK_OFF or failed >= self.attempts:
                    raise
                await trio.sleep(self.pause_s(failed))

    def pause_s(self, failed: int) -> float:
        """Return how long to wait after so many failures in a row, in seconds."""
        return min(self.longest_pause_s, self.poll_s * 2.0 ** (failed - 1))

    async def _view(self, hotkey: bytes, mechanism: int) -> View:
        chain = self.chain
        head = await chain.head()
        metagraph = await chain.metagraph(head.number)
        neuron = metagraph.by_hotkey(hotkey)
        exists = 0 <= mechanism < metagraph.rules.mechanisms
        uid = neuron.uid if neuron is not None and exists else None
        return View(
            head=head,
            metagraph=metagraph,
            epoch=await chain.epoch_status(head.number),
            rate_limit=await chain.weights_rate_limit(),
            evidence=Evidence(
                head=head.number,
                commit_reveal=metagraph.rules.commit_reveal,
                # The order is that of `Evidence`: arguments are evaluated from first to last.
                last_update=0 if uid is None else await chain.last_update_of(uid, mechanism),
                pending=await chain.pending_commits(hotkey, mechanism) if exists else (),
                stored=() if uid is None else await chain.weights_of(uid, mechanism),
            ),
        )


async def bounded(what: str, deadline_s: float, call: Callable[[], Awaitable[T]]) -> T:
    """Return what `call` returns; `ChainError` deadline if that takes longer than `deadline_s`."""
    try:
        with trio.fail_after(deadline_s):
            return await call()
    except trio.TooSlowError as error:
        raise ChainError(
            ChainErrorCode.DEADLINE,
            f"{what} took longer than {deadline_s} s; it may still land. Check the endpoint",
        ) from error
