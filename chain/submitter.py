"""Carries one certified vector to the chain and says what was seen there.

Rules:
1. Every call to the chain has a deadline, and so has the whole submission: a half-open connection
   must not stop a validator.
2. It reads before it writes. If the chain already holds the vector since the epoch closed, there
   is nothing to submit; so repeating a submission, after a crash or an abandoned call, is safe.
3. `preflight` decides. What it refuses is not sent. What is rate limited waits for its block;
   only failures that may pass are tried again, after a growing pause and a few times at most.
4. Inclusion is not application. After inclusion the stored weights are read: `ReadBack` means
   that they were seen, `Included` that only the inclusion was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from chain.errors import ChainError, ChainErrorCode, Retry
from chain.interface import Block, Chain, EpochStatus, HotkeySigner, Metagraph, WeightVector
from chain.preflight import (
    Ready,
    Refused,
    Wait,
    preflight,
    stagger_blocks,
    vector_fault,
)

__all__ = [
    "Included",
    "Outcome",
    "ReadBack",
    "Ready",
    "Refused",
    "Undecided",
    "Wait",
    "WeightSubmitter",
    "preflight",
    "stagger_blocks",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The chain was seen to hold the vector, set in `block`; `already`: nothing was sent."""

    block: int
    already: bool


@dataclass(frozen=True, slots=True)
class Included:
    """A call was included in `block`, but the vector was not seen in the chain's storage.

    `seen` is what was there when the patience ended. With commit-reveal this is the normal
    outcome until the reveal; without, it deserves an alert.
    """

    block: int
    seen: WeightVector


@dataclass(frozen=True, slots=True)
class Undecided:
    """The node stopped trying; a call may still land. Submitting again is safe (rule 2)."""

    code: ChainErrorCode
    reason: str


Outcome = ReadBack | Included | Refused | Undecided


@dataclass(frozen=True, slots=True)
class _View:
    """What was read at one finalised block, for one hotkey and mechanism."""

    head: Block
    metagraph: Metagraph
    epoch: EpochStatus
    rate_limit: int
    last_update: int
    stored: WeightVector


@dataclass(frozen=True, slots=True)
class _Task:
    """One submission: the vector, whose it is and between which blocks it counts."""

    chain: Chain
    signer: HotkeySigner
    vector: WeightVector
    mechanism: int
    version_key: int
    since_block: int
    not_before: int
    until_block: int | None


@dataclass(frozen=True, slots=True)
class WeightSubmitter:
    """How patiently weights are submitted. Times in seconds, the rest in counts or blocks.

    `call_deadline_s` bounds a read, `inclusion_deadline_s` the weights call with its
    finalisation, `overall_deadline_s` everything with all waits. `attempts` bounds the calls sent
    and, apart from that, the failed reads in a row. `stagger_window` spreads the submitters.
    """

    call_deadline_s: float = 30.0
    inclusion_deadline_s: float = 120.0
    overall_deadline_s: float = 3600.0
    poll_s: float = 3.0
    longest_pause_s: float = 60.0
    attempts: int = 5
    stagger_window: int = 0
    read_back_blocks: int = 3

    async def submit(
        self,
        chain: Chain,
        signer: HotkeySigner,
        vector: WeightVector,
        *,
        seed: bytes = b"",
        mechanism: int = 0,
        version_key: int = 0,
        since_block: int | None = None,
        until_block: int | None = None,
    ) -> Outcome:
        """Submit `vector` unless the chain holds it already; returns what was seen.

        `since_block` is the first block after the vector's epoch closed (default: the first of
        the present epoch): weights set before it are not this submission's, even if equal, and
        the stagger counts from it. `until_block` is where the vector is superseded. `seed` is
        shared by the validators and differs by epoch (a digest of the certified vector, say).
        Raises nothing for what the chain does; the outcome names it.
        """
        fault = vector_fault(vector)
        if fault is not None:
            return fault
        outcome: Outcome = Undecided(
            ChainErrorCode.DEADLINE,
            f"not settled within {self.overall_deadline_s} s; look at the chain's head and "
            "endpoint, then submit again",
        )
        with trio.move_on_after(self.overall_deadline_s):
            try:
                if since_block is None:
                    since_block = await self._reading(lambda: self._epoch_opened(chain))
                delay = stagger_blocks(seed, signer.public_key, self.stagger_window)
                task = _Task(
                    chain=chain,
                    signer=signer,
                    vector=vector,
                    mechanism=mechanism,
                    version_key=version_key,
                    since_block=since_block,
                    not_before=since_block + delay,
                    until_block=until_block,
                )
                outcome = await self._carry(task)
            except ChainError as error:
                outcome = _ended(error)
        return outcome

    async def _carry(self, task: _Task) -> Outcome:
        sent = 0
        while True:
            view = await self._reading(lambda: self._view(task))
            if view.stored == task.vector and view.last_update >= task.since_block:
                return ReadBack(view.last_update, already=sent == 0)
            decision = _decide(task, view)
            if isinstance(decision, Refused):
                return decision
            if isinstance(decision, Wait):
                await self._pass_blocks(task.chain, view.head.number + decision.blocks)
                continue
            sent += 1
            try:
                submitted = await self._bounded(
                    "set_weights",
                    self.inclusion_deadline_s,
                    lambda: task.chain.set_weights(
                        task.signer,
                        task.vector,
                        mechanism=task.mechanism,
                        version_key=task.version_key,
                    ),
                )
            except ChainError as error:
                if error.code.retry is Retry.NEVER or sent >= self.attempts:
                    return _ended(error)
                await self._pause(task, view, error, sent)
            else:
                return await self._read_back(task, submitted.block.number)

    async def _pause(self, task: _Task, view: _View, error: ChainError, sent: int) -> None:
        """Wait before another call: at least a block, so that the next view is a new one."""
        if error.code.retry is Retry.BACK_OFF:
            await trio.sleep(self._pause_s(sent))
        await self._pass_blocks(task.chain, view.head.number + max(1, error.wait_blocks or 1))

    async def _read_back(self, task: _Task, included: int) -> Outcome:
        """Look for the vector until `read_back_blocks` have passed since the inclusion."""
        while True:
            view = await self._reading(lambda: self._view(task))
            if view.stored == task.vector and view.last_update >= included:
                return ReadBack(view.last_update, already=False)
            if view.head.number >= included + self.read_back_blocks:
                return Included(included, view.stored)
            await self._pass_blocks(task.chain, max(included, view.head.number) + 1)

    async def _view(self, task: _Task) -> _View:
        chain = task.chain
        head = await chain.head()
        metagraph = await chain.metagraph(head.number)
        neuron = metagraph.by_hotkey(task.signer.public_key)
        known = neuron is not None and 0 <= task.mechanism < metagraph.rules.mechanisms
        return _View(
            head=head,
            metagraph=metagraph,
            epoch=await chain.epoch_status(head.number),
            rate_limit=await chain.weights_rate_limit(),
            # last_update is read first: read after the weights it could be that of a later call,
            # and confirm equal weights that were set in an earlier epoch.
            last_update=await chain.last_update_of(neuron.uid, task.mechanism)
            if neuron is not None and known
            else 0,
            stored=await chain.weights_of(neuron.uid, task.mechanism)
            if neuron is not None and known
            else (),
        )

    async def _epoch_opened(self, chain: Chain) -> int:
        head = await chain.head()
        return (await chain.epoch_status(head.number)).first_block

    async def _pass_blocks(self, chain: Chain, block: int) -> None:
        """Return when the head has reached `block`, asking every `poll_s`."""
        # Polling is all the interface offers, so that an adapter needs no subscription.
        while (await self._reading(chain.head)).number < block:  # noqa: ASYNC110
            await trio.sleep(self.poll_s)

    async def _reading(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` reads, within a deadline, trying again what may pass."""
        failed = 0
        while True:
            try:
                return await self._bounded("a read", self.call_deadline_s, read)
            except ChainError as error:
                failed += 1
                if error.code.retry is not Retry.BACK_OFF or failed >= self.attempts:
                    raise
                await trio.sleep(self._pause_s(failed))

    def _pause_s(self, failed: int) -> float:
        return min(self.longest_pause_s, self.poll_s * 2.0 ** (failed - 1))

    async def _bounded(self, what: str, deadline_s: float, call: Callable[[], Awaitable[T]]) -> T:
        try:
            with trio.fail_after(deadline_s):
                return await call()
        except trio.TooSlowError as error:
            raise ChainError(
                ChainErrorCode.DEADLINE,
                f"{what} took longer than {deadline_s} s; it may still land. Check the endpoint",
            ) from error


def _decide(task: _Task, view: _View) -> Ready | Wait | Refused:
    return preflight(
        view.metagraph,
        view.epoch,
        task.signer.public_key,
        view.head.number,
        view.rate_limit,
        task.vector,
        mechanism=task.mechanism,
        version_key=task.version_key,
        last_update=view.last_update,
        not_before=task.not_before,
        until_block=task.until_block,
    )


def _ended(error: ChainError) -> Outcome:
    if error.code.retry is Retry.NEVER:
        return Refused(error.code, str(error))
    return Undecided(error.code, str(error))
