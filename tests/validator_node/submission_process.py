"""A process that submits weights to an embedded chain, to be killed; started by the tests.

python -m tests.validator_node.submission_process FOLDER START-MS EPOCH PLACE

It first brings the epoch before EPOCH to its end, which an earlier process may have begun. Then it
submits EPOCH, and at PLACE ("before waiting", "after sending", "calling", "called", ...) it says so
and waits to be killed. At "end" it says "end" when everything is done.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import trio

from chain.embedded import EmbeddedChain
from chain.interface import WeightVector
from chain.submission_state import SubmissionRecord
from chain.submitter import WeightSubmitter
from chain.submitter_epoch import Certified, EpochOrder, EpochSubmitter
from tests.chain.support import ALICE, genesis
from validator_node.submission_book import SubmissionBook

BLOCK_MS = 100


def vector_of(epoch: int) -> WeightVector:
    return ((0, epoch + 1), (1, 65535))


def chain_at(folder: Path, start_ms: int) -> EmbeddedChain:
    rules = genesis(start_ms=start_ms, block_time_ms=BLOCK_MS, weights_rate_limit=0)
    return EmbeddedChain(rules, folder / "chain", lambda: time.time_ns() // 1_000_000)


def book_at(folder: Path) -> SubmissionBook:
    return SubmissionBook.open(
        folder / "submissions", network_id=bytes(32), hotkey=ALICE.public_key
    )


class Stops:
    """Where this process waits for its end."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.epoch = 0

    async def at(self, epoch: int, place: str) -> None:
        if (epoch, place) == (self.epoch, self._place):
            sys.stdout.write(place + "\n")
            sys.stdout.flush()
            await trio.sleep_forever()


class StoppingBook:
    def __init__(self, inner: SubmissionBook, stops: Stops) -> None:
        self._inner = inner
        self._stops = stops
        self.records = inner.records
        self.mechanisms = inner.mechanisms

    async def save(self, record: SubmissionRecord) -> None:
        await self._stops.at(record.epoch, f"before {record.stage}")
        await self._inner.save(record)
        await self._stops.at(record.epoch, f"after {record.stage}")


async def main(folder: Path, start_ms: int, epoch: int, place: str) -> None:
    stops = Stops(place)
    chain: Any = chain_at(folder, start_ms)
    set_weights, now = chain.set_weights, [0]

    async def calling(*arguments: Any, **more: Any) -> Any:
        await stops.at(now[0], "calling")
        submitted = await set_weights(*arguments, **more)
        await stops.at(now[0], "called")
        return submitted

    chain.set_weights = calling
    submitter = EpochSubmitter(
        chain,
        ALICE,
        StoppingBook(book_at(folder), stops),
        WeightSubmitter(poll_s=0.02, landing_blocks=2),
        on_alert=lambda alert: sys.exit(f"unexpected alert: {alert}"),
    )
    stops.epoch = epoch
    with trio.fail_after(60):
        for number in (epoch - 1, epoch) if epoch > 1 else (epoch,):
            now[0] = number
            certified = Certified(0, vector_of(number))
            await submitter.submit(EpochOrder(number, 1, (certified,)))
    sys.stdout.write("end\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
