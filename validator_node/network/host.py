"""The libp2p host: TCP, Noise, Yamux, one ed25519 identity.

Rules: Noise is the only security protocol, given explicitly, because the library's default also
takes plaintext, where a peer's public key alone is enough to pass for it. The peer id follows from
a stored 32-byte seed. On the way out connections are closed first, all at once, in bounded time.
"""

import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import libp2p
import multiaddr
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from validator_node.network.counters import attach
from validator_node.network.deadline import shielded
from validator_node.network.errors import AddressInUseError, InvalidAddressError, ListenError
from validator_node.network.limits import Gate, Limits, install
from validator_node.network.upstream import apply_all

log = logging.getLogger(__name__)

SEED_BYTES: Final = 32
CLOSE_S: Final = 3.0
GRACE_S: Final = 1.0
_NEGOTIATE_S: Final = 10


def peer_id_of(seed: bytes) -> str:
    """Return the peer id (base58) that follows from a 32-byte ed25519 seed.

    Raises:
        ValueError: if the seed is not 32 bytes long.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a libp2p seed has {SEED_BYTES} bytes, not {len(seed)}")
    return str(ID.from_pubkey(create_new_key_pair(seed).public_key))


def parse_address(text: str) -> tuple[str, multiaddr.Multiaddr]:
    """Split a multiaddr with a /p2p/ part into (peer id, address without that part).

    Raises:
        InvalidAddressError: if it is malformed or has no transport address or peer id.
    """
    try:
        address = multiaddr.Multiaddr(text)
        peer_id = address.value_for_protocol("p2p")
        transport = address.decapsulate(multiaddr.Multiaddr(f"/p2p/{peer_id}"))
        transport.value_for_protocol("tcp")
        ID.from_string(str(peer_id))
    except Exception as error:  # the parser raises many unrelated kinds
        raise InvalidAddressError(
            f"{text!r} is not an address like /ip4/192.0.2.1/tcp/4001/p2p/<peer id>: {error}"
        ) from error
    return str(peer_id), transport


def _listen_address(host: str, port: int) -> multiaddr.Multiaddr:
    try:
        version = ipaddress.ip_address(host).version
        return multiaddr.Multiaddr(f"/ip{version}/{host}/tcp/{port}")
    except Exception as error:
        raise ListenError(f"{host!r} port {port} is no IP address and TCP port: {error}") from error


def _check_free(host: str, port: int) -> None:
    """Bind and release the address: the library reports no reason when it cannot listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == 98 or "in use" in str(error).lower():
                raise AddressInUseError(
                    f"{host} port {port} is in use: stop the process that listens there, or "
                    "choose another listen port"
                ) from error
            raise ListenError(
                f"cannot listen on {host} port {port}: {error.strerror}; use an address of this "
                "machine and a port you may open"
            ) from error


def _new_host(
    seed: bytes, address: multiaddr.Multiaddr, announce: tuple[str, ...], limits: Limits
) -> Any:
    key_pair = create_new_key_pair(seed)
    noise = NoiseTransport(key_pair, noise_privkey=create_x25519_key_pair().private_key)
    host: Any = libp2p.new_host(
        key_pair=key_pair,
        sec_opt={NOISE: noise},
        muxer_opt={YAMUX: Yamux},
        listen_addrs=[address],
        negotiate_timeout=_NEGOTIATE_S,
        connection_config=ConnectionConfig(
            low_watermark=0,
            min_connections=0,
            # The gate counts who may come in; this is for those and as many that we dialled.
            max_connections=2 * (limits.all_inbound + limits.half_open),
            high_watermark=2 * (limits.all_inbound + limits.half_open),
            max_connections_per_peer=limits.connections_per_peer,
            inbound_upgrade_timeout=limits.handshake_s,
        ),
        announce_addrs=[multiaddr.Multiaddr(item) for item in announce] or None,
        # Otherwise any peer's word about our address would end up in our signed record.
        disable_identify_address_discovery=True,
    )
    # Whoever dials repeats with a back-off of his own.
    host.get_network().retry_config = RetryConfig(max_retries=0)
    return host


async def close_connections(connections: list[Any]) -> None:
    """Close connections together: one after the other takes 0.2 s each."""

    async def close(connection: Any) -> None:
        try:
            await connection.close()
        except Exception as error:
            log.debug("closing a connection failed: %r", error)

    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(close, connection)


async def cut_after_grace(host: Any, closed: trio.Event) -> None:
    """Shut the sockets down that are not closed `GRACE_S` after the end began.

    A peer that is gone without a word takes no data: each write to it, and there is one in every
    polite end of a stream or connection, would wait for its own deadline, one after the other.
    """
    with shielded(GRACE_S):
        await closed.wait()
    if closed.is_set():
        return
    for connection in list(host.get_network().get_connections()):
        # From the Yamux connection through Noise to the TCP stream.
        tcp = connection.muxed_conn.secured_conn.conn.conn.stream
        with contextlib.suppress(OSError):  # closed meanwhile
            tcp.stream.socket.shutdown(socket.SHUT_RDWR)


async def _close(host: Any) -> None:
    with shielded(CLOSE_S):
        await close_connections(list(host.get_network().get_connections()))
        await host.close()


def make_host(
    seed: bytes,
    listen_host: str,
    listen_port: int,
    gate: Gate,
    announce: tuple[str, ...] = (),
) -> Any:
    """Make a libp2p host that does not listen yet.

    Whatever must see every connection (gossip, `Connections`) is attached to it before
    `run_host`: peers of a restarted node dial it in the same millisecond.

    Args:
        seed: the 32-byte ed25519 seed of the libp2p key.
        listen_host: an IP address of this machine.
        listen_port: a TCP port, 0 for any free one.
        gate: the budgets, asked by the corrections of the library, and their counters.
        announce: multiaddrs (without peer id) to advertise instead of the listening ones.

    Raises:
        AddressInUseError: another process listens there.
        ListenError: the address is not one of this machine, or not allowed.
        ValueError: the seed is not 32 bytes long.
    """
    peer_id_of(seed)
    apply_all()
    library_log = logging.getLogger("libp2p")
    if not library_log.handlers:
        # Otherwise it prints each failed negotiation of any peer to standard error.
        library_log.addHandler(logging.NullHandler())
    address = _listen_address(listen_host, listen_port)
    _check_free(listen_host, listen_port)
    host = _new_host(seed, address, announce, gate.limits)
    for owner in (host, host.get_network()):
        attach(owner, gate.counters)
        install(owner, gate)
    return host


@asynccontextmanager
async def run_host(host: Any, listen_host: str, listen_port: int) -> AsyncIterator[None]:
    """Listen and accept connections until the block ends, then close them.

    Raises:
        AddressInUseError: the address was taken after `make_host` looked.
    """
    async with host.run([_listen_address(listen_host, listen_port)]):
        try:
            if not host.get_network().listeners:
                raise AddressInUseError(f"{listen_host} port {listen_port} was taken meanwhile")
            yield
        finally:
            await _close(host)
