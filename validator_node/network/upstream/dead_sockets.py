"""A peer that vanished without a FIN is noticed within about 20 s.

After a power cut or a cut cable the stock node keeps the connection until TCP gives up, which takes
some 15 minutes; Yamux pings but ignores a missing answer. Corrected: TCP keep-alive (10 s idle,
then 3 probes 3 s apart) and TCP_USER_TIMEOUT of 20 s on every connection.
"""

import contextlib
import socket
from typing import Any, Final

from libp2p.io.trio import TrioTCPStream

from validator_node.network.upstream.patching import replace

_OPTIONS: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 3),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
)


def _initialiser(original: Any) -> Any:
    def initialise(self: Any, stream: Any) -> None:
        original(self, stream)
        for level, option, value in _OPTIONS:
            # Some options exist on Linux only, and a socket may be closed by now.
            with contextlib.suppress(AttributeError, OSError):
                stream.socket.setsockopt(level, getattr(socket, option), value)

    return initialise


def apply() -> None:
    """Set keep-alive and user timeout on TCP connections."""
    replace(__name__, TrioTCPStream, "__init__", _initialiser)
