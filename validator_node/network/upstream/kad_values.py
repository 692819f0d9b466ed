"""The DHT's values lie where we say, not in a dictionary.

The stock store keeps up to 50,000 values of a megabyte in memory, looks through all of them for the
one to evict, and on disk rewrites one JSON file with every put (13 ms at 1,000 keys). It is no
function to correct but a part to replace: `HeldValues` is handed to the library in its place and
passes everything on. Values carry no libp2p signature: a record proves itself.
"""

from collections.abc import Callable
from typing import Any

from libp2p.kad_dht.common import format_time_rfc3339
from libp2p.kad_dht.pb.kademlia_pb2 import Record
from libp2p.kad_dht.value_store import ValueStore


def wire_record(key: bytes, value: bytes) -> Record:
    """Return a value as it travels, received now."""
    return Record(key=key, value=value, timeReceived=format_time_rfc3339())


class HeldValues(ValueStore):
    """The library's value store over ours.

    Args:
        held: key -> the value to answer with, or None.
        keep: called with the key and value of each put that the validator preferred.
    """

    def __init__(
        self,
        host: Any,
        held: Callable[[str], bytes | None],
        keep: Callable[[str, bytes], None],
    ) -> None:
        super().__init__(host, host.get_id())
        self._held = held
        self._keep = keep

    def get(self, key: bytes) -> Record | None:
        """Return what is held under `key`; None for a key that is no text."""
        try:
            value = self._held(key.decode())
        except UnicodeDecodeError:
            return None
        return None if value is None else wire_record(key, value)

    def put_record(self, key: bytes, record: Record) -> None:
        """Keep a value that was put."""
        self._keep(key.decode(), record.value)

    def put(self, key: bytes, value: bytes, validity: float = 0.0) -> None:
        """Keep a value; how long is the business of the store underneath."""
        del validity
        self._keep(key.decode(), value)

    def has(self, key: bytes) -> bool:
        """Return whether a value is held."""
        return self.get(key) is not None

    def remove(self, key: bytes) -> bool:
        """Remove nothing: what must not be served is not held."""
        del key
        return False

    def cleanup_expired(self) -> int:
        """Remove nothing: expiry is the business of the store underneath."""
        return 0

    async def _republish_records(self, peer_routing: Any = None) -> None:
        """Republish nothing: whoever owns a record renews it."""
        del peer_routing
