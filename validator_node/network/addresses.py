"""Addresses in node records: which are well formed, which may be dialled, which are announced.

Rules:
1. An address is `/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>`, with `/p2p/<peer id>` in a record and
   without it in a configuration. Anything else in somebody's record is passed over, not refused: a
   newer release may speak more transports.
2. What no stranger can be reached at is not dialled, for a record would otherwise make us knock at
   our own machine's doors: unspecified, multicast, reserved and link-local addresses never, and
   loopback only by a node that listens on loopback itself, as in a test network. A name is judged
   by what it leads to, when it is dialled (`names`).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import psutil

MAX_ADDRESSES: Final = 8
"""Addresses of one record that are used; the rest is passed over."""
MAX_ANNOUNCED: Final = 16
"""Addresses in our own record, as many as a record can hold."""

_IP_VERSIONS: Final = {"ip4": 4, "ip6": 6}
_NAMES: Final = ("dns", "dns4", "dns6")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}\Z")
_PEER_ID: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{46,64}\Z")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP endpoint from a multiaddr.

    Attributes:
        host: an IP address or a DNS name.
        port: the TCP port.
        ip: the address, None for a name.
        peer_id: who is said to listen there, None if the multiaddr does not say.
    """

    host: str
    port: int
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    peer_id: str | None

    def is_loopback(self) -> bool:
        """Tell whether it leads back to the machine that dials it."""
        if self.ip is None:
            name = self.host.lower()
            return name == "localhost" or name.endswith(".localhost")
        return self._plain().is_loopback

    def is_routable(self) -> bool:
        """Tell whether a stranger could be reached there; a name might."""
        if self.ip is None:
            return not self.is_loopback()
        ip = self._plain()
        return not (
            ip.is_unspecified
            or ip.is_loopback
            or ip.is_multicast
            or ip.is_reserved
            or ip.is_link_local
        )

    def _plain(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        assert self.ip is not None
        mapped = self.ip.ipv4_mapped if self.ip.version == 6 else None
        return mapped or self.ip


def parse_endpoint(text: str) -> Endpoint:
    """Return what a multiaddr names; `ValueError` says what an address looks like (rule 1)."""
    parts = text.split("/")
    if len(parts) not in (5, 7) or parts[0] or parts[3] != "tcp" or not _PORT.match(parts[4]):
        raise _malformed(text)
    kind, host, port = parts[1], parts[2], int(parts[4])
    peer_id = None
    if len(parts) == 7:
        peer_id = parts[6]
        if parts[5] != "p2p" or not is_peer_id(peer_id):
            raise _malformed(text)
    if kind in _NAMES and _NAME.match(host) and port <= 65_535:
        return Endpoint(host, port, None, peer_id)
    if kind not in _IP_VERSIONS or port > 65_535:
        raise _malformed(text)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError as error:
        raise _malformed(text) from error
    if ip.version != _IP_VERSIONS[kind] or "%" in host:
        raise _malformed(text)
    return Endpoint(host, port, ip, peer_id)


def _malformed(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is not an address like /ip4/192.0.2.1/tcp/4001 or /dns4/node.example/tcp/4001"
    )


def is_peer_id(text: str) -> bool:
    """Tell whether a text has the form of a peer id in base58."""
    return _PEER_ID.match(text) is not None


def check_external(texts: Iterable[str]) -> None:
    """Check the addresses that an operator wants announced.

    Raises:
        ValueError: one is malformed, has a peer id, cannot be reached by others, or there are more
            than `MAX_ADDRESSES`; the message names it and says what to write instead.
    """
    texts = tuple(texts)
    if len(texts) > MAX_ADDRESSES:
        raise ValueError(f"{len(texts)} addresses: others use at most {MAX_ADDRESSES}")
    for text in texts:
        endpoint = parse_endpoint(text)
        if endpoint.peer_id is not None:
            raise ValueError(f"{text!r}: leave /p2p/ and the peer id out, they are added")
        if not endpoint.is_routable() and not endpoint.is_loopback():
            raise ValueError(f"{text!r}: others cannot reach it; give the address they dial")


def dialable(addresses: Iterable[str], peer_id: str, *, loopback: bool) -> tuple[str, ...]:
    """Return the addresses of a record under which its peer may be dialled (rule 2).

    Args:
        addresses: as announced.
        peer_id: the peer of the record; an address that names another one is passed over.
        loopback: whether this node listens on loopback itself.
    """
    found: list[str] = []
    for text in addresses:
        try:
            endpoint = parse_endpoint(text)
        except ValueError:
            continue
        if endpoint.peer_id not in (None, peer_id):
            continue
        if endpoint.is_routable() or (loopback and endpoint.is_loopback()):
            found.append(text if endpoint.peer_id else f"{text}/p2p/{peer_id}")
    return tuple(found[:MAX_ADDRESSES])


def is_loopback_host(host: str) -> bool:
    """Tell whether a node that listens on the IP address `host` listens on loopback alone."""
    return ipaddress.ip_address(host).is_loopback


def announced(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return what to announce for our listening addresses.

    "Every interface" (0.0.0.0 or ::) is no address anybody could dial: the machine's own ones take
    its place, loopback and link-local left out.
    """
    found: dict[str, None] = {}
    for text in addresses:
        endpoint = parse_endpoint(text)
        if endpoint.ip is None or not endpoint.ip.is_unspecified:
            found[text] = None
            continue
        rest = text.split("/", 3)[3]
        for ip in _interface_addresses(endpoint.ip.version):
            found[f"/ip{ip.version}/{ip}/{rest}"] = None
    return tuple(found)[:MAX_ANNOUNCED]


def _interface_addresses(
    version: int,
) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family == family:
                ip = ipaddress.ip_address(entry.address.partition("%")[0])
                if not (ip.is_loopback or ip.is_link_local):
                    yield ip
