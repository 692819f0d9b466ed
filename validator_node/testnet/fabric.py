"""What lies between the nodes of a trial, and how it is made bad: proxies or network namespaces.

| | proxies | namespaces |
|---|---|---|
| needs | nothing | root, `ip`, network namespaces |
| partition | the proxies hold everything | frames go to a hardware address that nobody has |
| disconnect | the proxies reset connections | routes that are unreachable |
| slow link | yes | no (it takes the `netem` queueing discipline, which many systems lack) |
| IPv6, names | yes | no |
| peer exchange | off: whoever dials past the proxies is not cut off | on |

In both, the runner and the miners reach every node at any time: a cut is between nodes. A miner
forwards nothing, so it joins no two sides.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Protocol

from validator_node.errors import TestnetError
from validator_node.testnet import manifest as m
from validator_node.testnet.keeper import Keeper
from validator_node.testnet.manifest import Manifest
from validator_node.testnet.namespaces import Namespaces, why_no_namespaces
from validator_node.testnet.timeline import OPEN, Condition, Pair
from validator_node.testnet.wiring import (
    HOSTS,
    NAME,
    Place,
    Wiring,
    quiet_ports,
    tcp_multiaddr,
)

CHOICES = ("auto", "namespaces", "proxy")


class Fabric(Wiring, Protocol):
    """A wiring whose links can be made bad."""

    name: str

    async def set_links(self, conditions: Mapping[Pair, Condition]) -> None:
        """Make every link so; in effect when this returns."""

    async def close(self) -> None:
        """Remove whatever the fabric has set up."""


class ProxyFabric:
    """A proxy for each node that dials and each that is dialled; nodes listen on the loopback."""

    name = "proxy"

    def __init__(
        self, keeper: Keeper, places: list[Place], ports: dict[tuple[int, int], int], reach: str
    ) -> None:
        self.miner_host = host = HOSTS[reach]
        self._dialled = NAME if reach == "dns" else host
        self._keeper = keeper
        self._places = places
        self._ports = ports
        self._now: dict[Pair, Condition] = {}
        # Nodes learn each other's addresses. What they announce leads nowhere: this port is bound
        # and never listened on. Otherwise they could dial past the proxies.
        self._nowhere = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._nowhere.bind((host, 0))
        self.settings: Mapping[str, object] = {
            "peer_exchange": False,
            "external_addrs": [tcp_multiaddr(host, self._nowhere.getsockname()[1])],
        }

    @classmethod
    async def open(cls, nodes: int, keeper: Keeper, reach: str = "ip4") -> ProxyFabric:
        """Start the proxies."""
        host = HOSTS[reach]
        ports = quiet_ports(2 * nodes, host)
        places = [Place(host, ports[i], ports[nodes + i]) for i in range(nodes)]
        pairs = [(a, b) for a in range(nodes) for b in range(nodes) if a != b]
        made = await keeper.make_proxies([(a, b, host, places[b].port) for a, b in pairs])
        return cls(keeper, places, dict(zip(pairs, made, strict=True)), reach)

    def place(self, node: int) -> Place:
        """Return where a node listens."""
        return self._places[node]

    def dial(self, source: int, target: int) -> tuple[str, int]:
        """Return the proxy through which `source` dials `target`."""
        return self._dialled, self._ports[source, target]

    def prefix(self, node: int) -> tuple[str, ...]:  # noqa: ARG002 - of `Wiring`
        """Return nothing: nodes run as they are."""
        return ()

    async def set_links(self, conditions: Mapping[Pair, Condition]) -> None:
        """Make the changed links so."""
        changed = {p: c for p, c in conditions.items() if self._now.get(p, OPEN) != c}
        await self._keeper.set_links(changed)
        self._now = dict(conditions)

    async def close(self) -> None:
        """Free the port that nobody listens on; the proxies end with the keeper."""
        self._nowhere.close()


def choose(wanted: str, manifest: Manifest) -> tuple[str, str]:
    """Return (the fabric's name, why, or an empty text where it is the one wanted).

    Raises `TestnetError` if the wanted one cannot run this manifest here.
    """
    slow = any(isinstance(event, m.SlowLink) for event in manifest.event)
    if slow:
        obstacle = "a slow link needs the proxies"
    elif manifest.reach != "ip4":
        obstacle = f"reach = {manifest.reach!r} needs the proxies"
    else:
        obstacle = why_no_namespaces()
    if wanted == "proxy":
        return "proxy", ""
    if wanted == "namespaces":
        if obstacle:
            raise TestnetError(f"--fabric namespaces: {obstacle}; use --fabric proxy")
        return "namespaces", ""
    return ("proxy", obstacle) if obstacle else ("namespaces", "")


async def open_fabric(name: str, nodes: int, keeper: Keeper, reach: str = "ip4") -> Fabric:
    """Set up a fabric for so many nodes, which know each other by addresses of the kind `reach`."""
    if name == "namespaces":
        return await Namespaces.open(nodes)
    return await ProxyFabric.open(nodes, keeper, reach)
