"""How the nodes of a test network reach each other: where they listen and whom they dial where."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from validator_node.errors import TestnetError

HOST = "127.0.0.1"
HOSTS = {"ip4": HOST, "ip6": "::1", "dns": HOST}
"""Where nodes listen, by a manifest's `reach`."""
NAME = "localhost"
QUIET_PORTS = range(12_000, 32_000)
"""Below the range from which systems take the ports of outgoing connections: a node that is down
for a while finds its port free when it comes back."""


@dataclass(frozen=True)
class Place:
    """Where a node listens: an IP address, its libp2p port and its metrics port."""

    host: str
    port: int
    metrics_port: int


class Wiring(Protocol):
    """How the nodes reach each other."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What the wiring adds to every node's configuration."""

    @property
    def miner_host(self) -> str:
        """The address on which miners listen."""

    def place(self, node: int) -> Place:
        """Return where a node listens."""

    def prefix(self, node: int) -> tuple[str, ...]:
        """Return what stands before the command of a node."""

    def dial(self, source: int, target: int) -> tuple[str, int]:
        """Return the address and port under which node `source` dials node `target`."""


class Loopback:
    """All nodes on the loopback address, without anything between them."""

    miner_host = HOST

    def __init__(self, nodes: int) -> None:
        self.settings: Mapping[str, object] = {}
        ports = quiet_ports(2 * nodes)
        self._places = [Place(HOST, ports[i], ports[nodes + i]) for i in range(nodes)]

    def place(self, node: int) -> Place:
        """Return where a node listens."""
        return self._places[node]

    def prefix(self, node: int) -> tuple[str, ...]:  # noqa: ARG002 - of `Wiring`
        """Return nothing: nodes run as they are."""
        return ()

    def dial(self, source: int, target: int) -> tuple[str, int]:  # noqa: ARG002 - of `Wiring`
        """Return where the target listens."""
        place = self._places[target]
        return place.host, place.port


def tcp_multiaddr(host: str, port: int) -> str:
    """Return the multiaddr of a TCP port at an IP address or a name."""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}"


def free_ports(count: int) -> list[int]:
    """Return `count` TCP ports that are free now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(entry.getsockname()[1]) for entry in sockets]
    for entry in sockets:
        entry.close()
    return ports


def quiet_ports(count: int, host: str = HOST) -> list[int]:
    """Return `count` ports that are free now and that no outgoing connection will take.

    Raises `TestnetError` if there are not that many.
    """
    found: list[int] = []
    for port in random.sample(QUIET_PORTS, len(QUIET_PORTS)):
        if len(found) == count:
            return found
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found.append(port)
    raise TestnetError(
        f"only {len(found)} of {count} ports are free on {host} in {QUIET_PORTS.start} to "
        f"{QUIET_PORTS.stop}: end what listens there"
    )
