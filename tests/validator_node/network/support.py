"""Helpers of the network tests: nodes on loopback, waiting by event, stock library behaviour."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import trio
import trio.testing
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from validator_node.network import Limits, Network, NetworkConfig, host, open_network
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


async def hold(stream: object) -> None:
    """Handle a stream by never reading it."""
    await trio.sleep_forever()


@asynccontextmanager
async def victim_and_attacker(
    protocol: str | None, **limits: Any
) -> AsyncIterator[tuple[Network, Network]]:
    """Run two connected nodes, the first with these limits and a protocol that it only holds."""
    async with AsyncExitStack() as stack:
        guarded = replace(config(1), limits=Limits(**limits))
        victim = await stack.enter_async_context(open_network(guarded))
        if protocol is not None:
            victim._host.set_stream_handler(protocol, hold)
        attacker = await stack.enter_async_context(open_network(config(2, *victim.addresses)))
        with trio.fail_after(DEADLINE_S):
            await attacker.wait_connected(1)
            await victim.wait_connected(1)
        yield victim, attacker


def signed_message(author: Network, topic: str, data: bytes, number: int) -> Any:
    """Make a gossip message as its author signs it."""
    pubsub = author._gossip._pubsub
    message = rpc_pb2.Message(
        data=data,
        topicIDs=[topic],
        from_id=pubsub.my_id.to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    message.signature = pubsub.sign_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    return message


async def open_gossip(attacker: Network, victim_id: str) -> Any:
    """Open a gossip stream beside the one that the library keeps; `write` takes frames."""
    stream = await attacker._opener.open(victim_id, "/meshsub/1.1.0", max_frame_bytes=1)
    return stream._stream


def framed(rpc: Any) -> bytes:
    """Encode an RPC as it goes over a gossip stream."""
    encoded: bytes = encode_varint_prefixed(rpc.SerializeToString())
    return encoded


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
