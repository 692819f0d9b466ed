"""A name must not be looked up inside a dial, where nobody judges what it leads to.

The TCP transport resolves names itself, each time anew, by a resolver of its own that does not know
the machine's host file. Names reach it from strangers too (identify and the DHT fill the address
book that every new stream dials from), and what they lead to is dialled unseen: this machine's own
ports, or the metadata service of a cloud. Corrected: it dials numbers only. Names are looked up,
and judged, before (`names`).
"""

from typing import Any

from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP

from validator_node.network.names import FAMILIES
from validator_node.network.upstream.patching import replace


def _dial(original: Any) -> Any:
    async def dial(self: TCP, maddr: Any) -> Any:
        if any(protocol.name in FAMILIES for protocol in maddr.protocols()):
            raise OpenConnectionError(f"{maddr} has a name, which nobody has judged")
        return await original(self, maddr)

    return dial


def apply() -> None:
    """Let the TCP transport dial addresses alone, no names."""
    replace(__name__, TCP, "dial", _dial)
