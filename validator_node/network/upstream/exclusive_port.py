"""Two nodes must not share one listening port unnoticed.

The TCP listener sets SO_REUSEPORT (for hole punching), so a second node on the same port starts
without an error and takes half of the first one's connections. Corrected: SO_REUSEADDR only, which
still allows a restart while old connections linger.
"""

import socket
from typing import Any

import libp2p.transport.tcp.tcp as tcp_module

from validator_node.network.upstream.patching import replace


def _flags(_: Any) -> Any:
    def _set_reuse_flags(sock: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    return _set_reuse_flags


def apply() -> None:
    """Listen on a port of our own."""
    replace(__name__, tcp_module, "_set_reuse_flags", _flags)
