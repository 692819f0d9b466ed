"""A node in a process of its own, for tests that kill it: echoes links, requests and gossip.

Usage: python -m tests.validator_node.network.peer_process SEED_BYTE PORT [BOOTSTRAP...]
"""

import sys

import trio

from tests.validator_node.network.support import config, yes
from validator_node.network import open_network

TOPIC = "/test/restart/1"
ECHO = "/test/restart/echo/1"
LINKS = "/test/restart/links/1"


async def main() -> None:
    seed, port, *bootstrap = sys.argv[1:]
    async with open_network(config(int(seed), *bootstrap, port=int(port))) as node:
        links = node.open_links(LINKS, on_frame=lambda peer_id, frame: links.send(peer_id, frame))
        channel = await node.join(TOPIC, yes)
        print(node.addresses[0], flush=True)  # noqa: T201  # the parent waits for this line
        async for message in channel:
            await node.publish(TOPIC, b"echo " + message.data)


if __name__ == "__main__":
    trio.run(main)
