"""A node in a process of its own, for tests that send it signals.

Usage: python -m tests.validator_node.network.signal_process own|stock
"""

import sys

import trio

from tests.validator_node.network.support import config
from validator_node.network import open_network
from validator_node.run import _stop_on_signal


async def main(kind: str) -> None:
    async with trio.open_nursery() as nursery:
        if kind == "own":
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        async with open_network(config(1)):
            print("up", flush=True)  # noqa: T201  # the parent waits for this line
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
