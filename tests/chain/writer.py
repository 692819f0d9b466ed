"""A process that submits weights to an embedded chain; started by the tests.

python -m tests.chain.writer DIRECTORY SEED-BYTE COUNT

It submits COUNT vectors (0: without end), each in a block of its own on a clock of its own, and
prints a line when it is ready and one for each that was included.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import trio

from chain.embedded import EmbeddedChain
from chain.errors import ChainError, ChainErrorCode
from tests.chain.support import Clock, Hotkey, genesis


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(directory: Path, seed_byte: int, count: int) -> None:
    clock = Clock()
    chain = EmbeddedChain(genesis(weights_rate_limit=0), directory, clock)
    key = Hotkey(bytes([seed_byte]) * 32)
    say("ready")
    await trio.to_thread.run_sync(sys.stdin.readline)
    for number in itertools.count(1):
        clock.to_block(number)
        while True:
            try:
                await chain.set_weights(key, ((0, 65535), (1, number % 65535 + 1)))
                break
            except ChainError as error:
                if error.code is not ChainErrorCode.STALE:
                    raise
        say(str(number))
        if number == count:
            return


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
