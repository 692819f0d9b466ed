"""Four nodes keep talking while a stranger in another process floods one of them.

A light periodic exchange over links stands in for decisions: it stops when the event loop, the
connections or the streams of a node do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import trio

from tests.attacks.floods import FLOODS, FRESH
from tests.validator_node.network.support import config, until
from validator_node.network import CheckAnswer, Limits, Links, Network, open_network, peer_id_of
from validator_node.network.limits import MIB

ROOT = Path(__file__).parents[2]
TOPIC = "/test/attacks/1"
ASK = "/test/attacks/ask/1"
LINKS = "/test/attacks/links/1"
PERIOD_S = 0.1
FLOOD_S = 4.0
LONGEST_SILENCE_S = 3.0
GROWTH_BYTES = 64 * MIB
SEED = bytes([77]) * 32
FRIENDS = frozenset(peer_id_of(bytes([number]) * 32) for number in range(1, 5))
SHORT = ("gossip", "half-open", "huge-gossip", "slow-loris", "subscriptions")
LONG = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in (*sorted(set(FLOODS) - set(SHORT)), "gossip" + FRESH)
]
LIMITS = Limits(frame_s=1.0, handshake_s=2.0)


class Exchange:
    """One node's part in the periodic exchange."""

    def __init__(self, node: Network) -> None:
        self.node = node
        self.heard: dict[str, float] = {}
        self.longest: dict[str, float] = {}
        self.links: Links = node.open_links(
            LINKS,
            on_frame=self._hear,
            hello=lambda: b"friend",
            on_hello=self._admit,
            wanted=lambda peer_id: peer_id in FRIENDS,
        )

    async def _admit(self, _: str, hello: bytes) -> bool:
        return hello == b"friend"

    def _hear(self, peer_id: str, _: bytes) -> None:
        now = trio.current_time()
        silence = now - self.heard.get(peer_id, now)
        self.longest[peer_id] = max(self.longest.get(peer_id, 0.0), silence)
        self.heard[peer_id] = now

    async def run(self) -> None:
        while True:
            for peer_id in self.links.up():
                self.links.send(peer_id, b"tick")
            await trio.sleep(PERIOD_S)


async def answer(_: str, data: bytes) -> bytes:
    return data


@asynccontextmanager
async def four() -> AsyncIterator[list[Exchange]]:
    async with AsyncExitStack() as stack:
        nodes: list[Network] = []
        for number in range(1, 5):
            known = tuple(address for node in nodes for address in node.addresses)
            guarded = replace(config(number, *known), limits=LIMITS)
            node = await stack.enter_async_context(open_network(guarded))
            await node.join(TOPIC, lambda *_: CheckAnswer.REJECT)
            node.serve(ASK, answer, max_request_bytes=1_000, deadline_s=5)
            nodes.append(node)
        exchanges = [Exchange(node) for node in nodes]
        async with trio.open_nursery() as nursery:
            with trio.fail_after(20):
                for exchange in exchanges:
                    await exchange.links.wait_up(3)
                    nursery.start_soon(exchange.run)
            await until(lambda: all(len(exchange.heard) == 3 for exchange in exchanges))
            yield exchanges
            nursery.cancel_scope.cancel()


async def flood(name: str, address: str) -> str:
    """Run the stranger in a process of its own; return its report."""
    command = [sys.executable, "-m", "tests.attacks.flood", "--address", address, "--flood", name]
    command += ["--seconds", str(FLOOD_S)]
    if not name.endswith(FRESH):
        command += ["--seed", SEED.hex()]
    command += ["--request-protocol", ASK, "--link-protocol", LINKS]
    with trio.fail_after(60):
        done = await trio.run_process(
            command,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().strip()


@pytest.mark.processes
@pytest.mark.parametrize("name", [*SHORT, *LONG])
async def test_the_others_keep_talking(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    process = psutil.Process()
    async with four() as exchanges:
        victim = exchanges[0].node
        before, most = process.memory_info().rss, 0
        for exchange in exchanges:
            exchange.longest.clear()

        async def sample() -> None:
            nonlocal most
            while True:
                most = max(most, process.memory_info().rss)
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sample)
            report = await flood(name, victim.addresses[0])
            nursery.cancel_scope.cancel()
        silence = max(max(exchange.longest.values()) for exchange in exchanges)
        stranger = peer_id_of(SEED)
        with capsys.disabled():
            print(  # noqa: T201  # the figures are half of what this is for
                f"\n{report}\n  accepted {accepted(victim, name)}, charged {charged(victim)}, "
                f"banned {stranger in victim.bans()}; memory +{(most - before) / MIB:.1f} MiB; "
                f"longest silence {silence:.2f} s"
            )
        assert silence < LONGEST_SILENCE_S
        assert most - before < GROWTH_BYTES < LIMITS.memory_bound_bytes()
        if name == "half-open":  # nobody to blame: it never said who it is
            assert victim.counters["refused", "half_open_per_ip"] > 0
        elif name.endswith(FRESH):
            assert len(victim.bans()) > 1
        else:
            assert victim.score(stranger) > 0 or stranger in victim.bans()
        for exchange in exchanges:
            assert len(exchange.links.up()) == 3
            assert not FRIENDS & set(exchange.node.bans())


def charged(node: Network) -> dict[str, int]:
    return {reason: n for (name, reason), n in node.counters.items() if name == "charged"}


def accepted(node: Network, name: str) -> int:
    """Count what reached the node's own code: checked messages, kept subscriptions."""
    if name.startswith("gossip"):
        return node.counters["refused", "gossip_rejected"]
    if name == "subscriptions":
        return sum(node._gossip._pubsub._peer_subscription_count.values())
    return 0
