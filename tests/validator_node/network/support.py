"""Helpers of the network tests: nodes on loopback, waiting by event, stock library behaviour."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any

import trio
import trio.testing

from validator_node.network import Network, NetworkConfig, host, open_network
from validator_node.network.upstream import CORRECTIONS, apply_all
from validator_node.network.upstream.patching import APPLIED

DEADLINE_S = 20.0


def config(number: int, *bootstrap: str, port: int = 0) -> NetworkConfig:
    return NetworkConfig(
        seed=bytes([number]) * 32, listen_host="127.0.0.1", listen_port=port, bootstrap=bootstrap
    )


@asynccontextmanager
async def nodes(count: int, first: int = 1) -> AsyncIterator[list[Network]]:
    """Run `count` nodes, each connected to every other."""
    async with AsyncExitStack() as stack:
        running: list[Network] = []
        for number in range(first, first + count):
            known = tuple(address for node in running for address in node.addresses)
            running.append(await stack.enter_async_context(open_network(config(number, *known))))
        with trio.fail_after(DEADLINE_S):
            for node in running:
                await node.wait_connected(count - 1)
        yield running


async def until(holds: Callable[[], Any]) -> None:
    """Wait until `holds()`, looking whenever every task has come to rest."""
    with trio.fail_after(DEADLINE_S):
        while not holds():
            await trio.testing.wait_all_tasks_blocked(0.002)


async def yes(peer_id: str, data: bytes) -> bool:
    return True


@contextmanager
def uncorrected(*stock: ModuleType) -> Iterator[None]:
    """Take corrections away for a while, to watch the fault they correct."""
    apply_all()
    _undo_all()
    for correction in CORRECTIONS:
        if correction not in stock:
            correction.apply()
    host.apply_all, applied = lambda: None, host.apply_all  # type: ignore[assignment]
    try:
        yield
    finally:
        host.apply_all = applied
        _undo_all()
        apply_all()


def _undo_all() -> None:
    for _, owner, name, before, _after in reversed(list(APPLIED.values())):
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
    APPLIED.clear()
