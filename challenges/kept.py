"""Built modules in the user's cache, each named by the hash of all that it is made of.

Rules:

- A file is there whole or not at all; two builds that write the same name do no harm.
- Each kind of module has a folder of its own and keeps the `MAX_KEPT` used last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from challenges.cache import cache_folder

MAX_KEPT = 8
"""Modules kept in a folder; the least recently used go first."""


def kept_path(folder: str, how: str, files: Iterable[Path]) -> Path:
    """Return where the module made in this way (tool, version, flags) of these files is kept."""
    digest = hashlib.sha256(f"{how}\n".encode())
    for path in files:
        body = path.read_bytes()
        digest.update(f"{path.name} {len(body)}\n".encode() + body)
    return cache_folder() / folder / f"{digest.hexdigest()}.wasm"


def find(path: Path) -> bytes | None:
    """Return a module that was kept, or None. It counts as used now."""
    try:
        module = path.read_bytes()
        os.utime(path)
    except FileNotFoundError:
        return None
    return module


def keep(path: Path, module: bytes) -> None:
    """Keep a module, and drop what exceeds `MAX_KEPT`. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(module)
        file.flush()
        os.fsync(file.fileno())  # or a power cut leaves an empty file of the right name
    part.replace(path)
    found = sorted(path.parent.glob("*.wasm"), key=lambda entry: entry.stat().st_mtime_ns)
    for old in found[:-MAX_KEPT]:
        old.unlink(missing_ok=True)
