"""Compiled components between two commands: compiling one takes 20 s of CPU, loading it 0.1 s.

The files lie in the user's cache folder, mode 0700, and are authenticated with a key of this user
(`runtime.artifact_cache`): nobody else can make this user run machine code.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from challenges.cache import cache_folder
from challenges.progress import Say, silent
from protocol.codec import sha256
from runtime.artifact import Artifact
from runtime.artifact_cache import KEY_BYTES, ArtifactCache
from runtime.compiler import Compiler, ModuleSource
from runtime.component_artifact import build_component
from runtime.engine import engine_id, new_component_engine


def component_artifact(component: bytes, say: Say = silent) -> Artifact:
    """Return a component compiled, from the cache or in this process.

    Raises `Fault` (compile), `OSError`, and `runtime.artifact_cache.ArtifactFolderError`.
    """
    cache = open_cache()
    found = cache.get(sha256(component))
    if found is None:
        say("compiling the component to machine code, once for each build: about 20 s")
        found = build_component(new_component_engine(), engine_id(), component)
        cache.put(found)
    return found


def component_compiler(source: ModuleSource) -> Compiler:
    """Return a compiler for a pool that shares this cache."""
    return Compiler(open_cache(), engine_id(), source)


def open_cache() -> ArtifactCache:
    """Return the user's artifacts."""
    folder = cache_folder() / "artifacts"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return ArtifactCache(folder, _key(folder / "key"), engine_id())


def _key(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        # another command is writing it now, or was interrupted: nothing is found with another key
        return secrets.token_bytes(KEY_BYTES)
    with open(descriptor, "wb") as file:  # noqa: PTH123
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
    return key
