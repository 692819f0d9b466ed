"""Modules, data blobs and test vectors by their hash: what evaluations are made of.

Rules:
1. What is installed with the node is in memory; what came over the network lies in a folder, one
   file for each, named by its hash. Nothing here is ever dropped: an active challenge needs it.
2. A file is checked against its name whenever it is read. A damaged one counts as missing, and is
   replaced by what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from protocol.codec import sha256


class Modules:
    """The node's modules. `get` is a `runtime.compiler.ModuleSource`."""

    def __init__(self, installed: Mapping[bytes, bytes], folder: Path) -> None:
        self._installed = installed
        self._folder = folder

    def get(self, digest: bytes) -> bytes | None:
        """Return the bytes whose SHA-256 is `digest`, or None."""
        if digest in self._installed:
            return self._installed[digest]
        try:
            found = (self._folder / digest.hex()).read_bytes()
        except OSError:
            return None
        return found if sha256(found) == digest else None

    def put(self, digest: bytes, content: bytes) -> None:
        """Keep `content`. Raises `ValueError` for a wrong hash, and `OSError`."""
        if sha256(content) != digest:
            raise ValueError(f"module {digest.hex()}: content hashes to {sha256(content).hex()}")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f"{digest.hex()}.part"
        part.write_bytes(content)
        part.replace(self._folder / digest.hex())
