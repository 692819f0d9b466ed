"""The replicated state as pure functions see it: a map from bytes to bytes.

`storage.state` implements it over LevelDB with a Merkle root; tests use a dictionary. Keys start
with a namespace and a slash; the table of namespaces is in `registry/keys.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class View(Protocol):
    """Read and write access to one version of the state."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""

    def delete(self, key: bytes) -> None:
        """Remove `key`; nothing happens if it is absent."""

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries whose keys start with `prefix`, in key order."""


class DictView:
    """A view over a plain dictionary, for pure computations and tests."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""
        self.entries[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key`."""
        self.entries.pop(key, None)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries under `prefix`, in key order."""
        yield from sorted(item for item in self.entries.items() if item[0].startswith(prefix))
