"""Each node in a network namespace of its own, joined by a bridge that the runner is on as well.

A black hole is a fixed neighbour entry with a hardware address that nobody has: frames leave and
nobody takes them, as when a switch between two halves of a network is unplugged. A cut is an
`unreachable` route: connecting fails at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

import trio

from validator_node.errors import TestnetError
from validator_node.testnet import leftovers
from validator_node.testnet.timeline import OPEN, Condition, Pair
from validator_node.testnet.wiring import Place

SUBNETS = range(256)
NETWORK = "10.231"
PORT, METRICS_PORT = 4001, 9100
DEVICE = "eth0"
NOBODY = "02:00:00:00:00:fe"
"""A hardware address that no device of the bridge has."""
COMMAND_S = 20.0


def why_no_namespaces() -> str:
    """Return why this machine cannot join namespaces by a bridge; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (package iproute2)"
    trial, device = (leftovers.name_of(os.getpid(), kind) for kind in ("t", "u"))
    try:
        made = _ip("netns", "add", trial), _ip("link", "add", device, "type", "bridge")
        for answer in made:
            if answer.returncode:
                return f"network namespaces: {answer.stderr.strip()}"
    except subprocess.TimeoutExpired:
        return f"network namespaces: ip did not end in {COMMAND_S:g} s"
    finally:
        leftovers.remove_run(os.getpid())
    return ""


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", *words],  # noqa: S607 - wherever the system keeps it
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


async def _do(*words: str) -> None:
    answer = await trio.to_thread.run_sync(_ip, *words)
    if answer.returncode:
        raise TestnetError(f"ip {' '.join(words)}: {answer.stderr.strip()}")


def _free_subnet() -> str:
    """Return the first three parts of a subnet in which this machine has no address."""
    taken = _ip("-o", "-4", "addr").stdout
    first = os.getpid() % len(SUBNETS)
    for number in [*SUBNETS[first:], *SUBNETS[:first]]:
        if f" {NETWORK}.{number}." not in taken:
            return f"{NETWORK}.{number}"
    raise TestnetError(f"every subnet of {NETWORK}.0.0/16 is in use on this machine")


class Namespaces:
    """The fabric; see the module."""

    name = "namespaces"

    def __init__(self, nodes: int, subnet: str) -> None:
        self._nodes = nodes
        self._subnet = subnet
        self._now: dict[Pair, Condition] = {}
        self.miner_host = f"{subnet}.1"
        self.settings: Mapping[str, object] = {}

    @classmethod
    async def open(cls, nodes: int) -> Namespaces:
        """Make the bridge and a namespace for each node."""
        fabric = cls(nodes, _free_subnet())
        bridge = leftovers.name_of(os.getpid(), "br")
        await _do("link", "add", bridge, "type", "bridge")
        await _do("addr", "add", f"{fabric.miner_host}/24", "dev", bridge)
        await _do("link", "set", bridge, "up")
        for node in range(nodes):
            await fabric._make(node, bridge)
        return fabric

    async def _make(self, node: int, bridge: str) -> None:
        space, outside = self._space(node), leftovers.name_of(os.getpid(), "v", node)
        await _do("netns", "add", space)
        await _do("link", "add", outside, "type", "veth", "peer", DEVICE, "netns", space)
        await _do("link", "set", outside, "master", bridge, "up")
        await _do("-n", space, "link", "set", "lo", "up")
        await _do("-n", space, "addr", "add", f"{self._address(node)}/24", "dev", DEVICE)
        await _do("-n", space, "link", "set", DEVICE, "up")

    def _space(self, node: int) -> str:
        return leftovers.name_of(os.getpid(), "n", node)

    def _address(self, node: int) -> str:
        return f"{self._subnet}.{10 + node}"

    def place(self, node: int) -> Place:
        """Return where a node listens: at its own address."""
        return Place(self._address(node), PORT, METRICS_PORT)

    def dial(self, source: int, target: int) -> tuple[str, int]:  # noqa: ARG002 - of `Wiring`
        """Return the target's own address: the bridge carries everything."""
        return self._address(target), PORT

    def prefix(self, node: int) -> tuple[str, ...]:
        """Return the entry into a node's namespace; `ip` becomes the node, it starts no child."""
        return ("ip", "netns", "exec", self._space(node))

    async def set_links(self, conditions: Mapping[Pair, Condition]) -> None:
        """Make the changed links so, at both ends."""
        for pair, condition in conditions.items():
            before = self._now.get(pair, OPEN)
            if condition.delay_ms or condition.rate:
                raise TestnetError("a slow link needs the proxies: use --fabric proxy")
            if before == condition:
                continue
            for here, there in (pair, pair[::-1]):
                await self._set(self._space(here), self._address(there), before, condition)
        self._now = dict(conditions)

    async def _set(self, space: str, other: str, before: Condition, after: Condition) -> None:
        if before.mode == "hole":
            await _do("-n", space, "neigh", "del", other, "dev", DEVICE)
        elif before.mode == "cut":
            await _do("-n", space, "route", "del", "unreachable", f"{other}/32")
        if after.mode == "hole":
            fixed = ("lladdr", NOBODY, "dev", DEVICE, "nud", "permanent")
            await _do("-n", space, "neigh", "replace", other, *fixed)
        elif after.mode == "cut":
            await _do("-n", space, "route", "add", "unreachable", f"{other}/32")

    async def close(self) -> None:
        """Remove namespaces, bridge and mounts of this run."""
        await trio.to_thread.run_sync(leftovers.remove_run, os.getpid())
