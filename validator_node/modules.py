"""Modules, data blobs and test vectors by their hash: what evaluations are made of.

Rules:
1. What is installed with the node is in memory; what came over the network lies in a folder, one
   file for each, named by its hash. Nothing here is ever dropped: an active challenge needs it.
2. A file is checked against its name whenever it is read. A damaged one counts as missing, and is
   replaced by what comes next. `has` reads it again only if its size or time has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from protocol.codec import sha256


class Modules:
    """The node's modules. `get` is a `runtime.compiler.ModuleSource`."""

    def __init__(self, installed: Mapping[bytes, bytes], folder: Path) -> None:
        self._installed = installed
        self._folder = folder
        self._sound: dict[bytes, tuple[int, int]] = {}
        """Size and time of the files whose hash was right; one entry for each file at most."""
        self._writing = threading.Lock()

    def get(self, digest: bytes) -> bytes | None:
        """Return the bytes whose SHA-256 is `digest`, or None."""
        if digest in self._installed:
            return self._installed[digest]
        try:
            found = (self._folder / digest.hex()).read_bytes()
        except OSError:
            return None
        return found if sha256(found) == digest else None

    def has(self, digest: bytes) -> bool:
        """Return whether `get` finds it. Reads a file that it has not seen yet."""
        if digest in self._installed:
            return True
        try:
            found = (self._folder / digest.hex()).stat()
        except OSError:
            self._sound.pop(digest, None)
            return False
        mark = (found.st_size, found.st_mtime_ns)
        if self._sound.get(digest) != mark:
            if self.get(digest) is None:
                self._sound.pop(digest, None)
                return False
            self._sound[digest] = mark
        return True

    def put(self, digest: bytes, content: bytes) -> None:
        """Keep `content`. Raises `ValueError` for a wrong hash, and `OSError`."""
        if sha256(content) != digest:
            raise ValueError(f"module {digest.hex()}: content hashes to {sha256(content).hex()}")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f"{digest.hex()}.part"
        with self._writing:  # two that fetched the same write it one after the other
            part.write_bytes(content)
            part.replace(self._folder / digest.hex())
