"""Only our own loop decides whom to dial.

The auto-connector dials any address it once heard of while there are fewer than 200 connections,
and waits 60 s before it dials a lost peer again. Corrected: it does nothing; `connections.py` keeps
the configured peers.
"""

from typing import Any

from libp2p.network.auto_connector import AutoConnector

from validator_node.network.upstream.patching import replace


def _idle(_: Any) -> Any:
    async def maybe_connect(self: Any) -> None:
        del self

    return maybe_connect


def apply() -> None:
    """Turn the auto-connector off."""
    replace(__name__, AutoConnector, "maybe_connect", _idle)
