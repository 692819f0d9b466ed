"""A hostile process: `python -m tests.attacks.hostile NAME SETTINGS.json`, until it is killed.

Hostile peers use the product's network without its manners: see `stranger`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from validator_node.logs import configure
from validator_node.network import Network, NetworkConfig, open_network

CONNECT_S = 60.0


def tell(**what: Any) -> None:
    """Tell the harness."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def stranger(
    *addresses: str, seed: bytes | None = None, wait: bool = True
) -> AsyncIterator[Network]:
    """Run a peer that knows these nodes; the harness learns its id."""
    config = NetworkConfig(
        seed=seed or os.urandom(32), listen_host="127.0.0.1", listen_port=0, bootstrap=addresses
    )
    async with open_network(config) as network:
        tell(peers=[network.peer_id])
        if wait:
            with trio.move_on_after(CONNECT_S):
                await network.wait_connected(1)
        yield network


def dial_from(hosts: list[str]) -> None:
    """Let every further connection of this process come from one of these addresses in turn."""
    stock, count = trio.open_tcp_stream, iter(range(1 << 30))

    async def bound(host: Any, port: int, **options: Any) -> Any:
        return await stock(
            host, port, **{**options, "local_address": hosts[next(count) % len(hosts)]}
        )

    trio.open_tcp_stream = bound  # type: ignore[assignment]  # of the library's dialler


def main() -> None:
    """Be the hostile side of the named attack."""
    from tests.attacks.plays import ATTACKS

    configure(None, logging.ERROR)
    name, path = sys.argv[1:]
    trio.run(ATTACKS[name].hostile, json.loads(Path(path).read_text()))


if __name__ == "__main__":
    main()
