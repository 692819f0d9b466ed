"""Replacing the addresses under which a peer is kept connected.

`Connections` dials the addresses in its list; here the list is replaced in place, so that the one
task that keeps the peer connected goes on with the new ones and no second task begins.
"""

from collections.abc import Sequence

from validator_node.network.connections import Connections
from validator_node.network.errors import InvalidAddressError
from validator_node.network.host import parse_address


def keep(connections: Connections, peer_id: str, multiaddrs: Sequence[str]) -> None:
    """Keep a peer connected under these addresses alone, whatever was known before.

    Raises:
        InvalidAddressError: one is malformed or names another peer; nothing was changed.
    """
    if not multiaddrs:
        raise InvalidAddressError(f"no address to keep {peer_id} connected under")
    parsed = [parse_address(text) for text in multiaddrs]
    for text, (named, _) in zip(multiaddrs, parsed, strict=True):
        if named != peer_id:
            raise InvalidAddressError(f"{text!r} is an address of another peer than {peer_id}")
    known = connections._bootstrap.get(peer_id)
    if known is None:
        for text in multiaddrs:
            connections.add_bootstrap(text)
    else:
        known[:] = dict.fromkeys(address for _, address in parsed)
