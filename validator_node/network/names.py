"""DNS names in addresses: looked up by the system, judged address by address, then dialled as such.

Rules:
1. A name is looked up once a dial, by the system's own resolver (so `/etc/hosts` counts), within
   `LOOK_UP_S`; of what it leads to the first `MAX_FOUND` addresses are used.
2. What a name leads to is judged like an address that was written down: somebody's record makes
   nobody knock at this machine's own doors, or at its cloud's. What is dialled is the very address
   that was judged, and it is not looked up again: it could lead elsewhere a moment later.
3. Names that the operator configured may lead anywhere: a private network is the operator's choice.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import multiaddr
import trio

from validator_node.network.addresses import Endpoint
from validator_node.network.counters import Counters

log = logging.getLogger(__name__)

LOOK_UP_S: Final = 5.0
MAX_FOUND: Final = 4
FAMILIES: Final = {
    "dns": socket.AF_UNSPEC,
    "dns4": socket.AF_INET,
    "dns6": socket.AF_INET6,
    "dnsaddr": None,
}
"""Kinds of names, and which addresses may answer; `dnsaddr` names no port and is never dialled."""

LookUp = Callable[[str, int], Awaitable[list[str]]]
"""`look_up(name, family)` returns IP addresses as text; `OSError` if there are none."""


async def look_up(name: str, family: int) -> list[str]:
    """Ask the system for the addresses of a name."""
    found = await trio.socket.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Names:
    """Turns multiaddrs with names into those that may be dialled."""

    def __init__(self, counters: Counters, *, loopback: bool, look_up: LookUp = look_up) -> None:
        """`loopback` is whether this node listens on loopback, and so may dial it."""
        self._counters = counters
        self._loopback = loopback
        self._look_up = look_up

    async def addresses(self, address: Any, *, configured: bool) -> list[Any]:
        """Return the multiaddrs to dial for one without peer id: itself, unless it has a name."""
        protocol = next(iter(address.protocols())).name
        family = FAMILIES.get(protocol)
        if protocol not in FAMILIES:
            return [address]
        if family is None:
            return []
        name, port = address.value_for_protocol(protocol), address.value_for_protocol("tcp")
        found: list[Any] = []
        for text in dict.fromkeys(await self._find(str(name), family)):
            ip = ipaddress.ip_address(text.partition("%")[0])
            if not configured and not self._may_dial(Endpoint(text, int(port), ip, None)):
                self._counters.count("refused", "resolved_address")
                log.info("%s leads to %s, where no stranger is: not dialled", name, ip)
                continue
            found.append(multiaddr.Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}"))
        return found

    async def _find(self, name: str, family: int) -> list[str]:
        try:
            with trio.fail_after(LOOK_UP_S):
                return (await self._look_up(name, family))[:MAX_FOUND]
        except (OSError, UnicodeError, trio.TooSlowError) as error:
            self._counters.count("errors", "look_up")
            log.debug("looking up %s failed: %r", name, error)
            return []

    def _may_dial(self, endpoint: Endpoint) -> bool:
        return endpoint.is_routable() or (self._loopback and endpoint.is_loopback())
