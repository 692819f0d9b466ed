"""A compiler for tests, and modules for it."""

from __future__ import annotations

from pathlib import Path

from protocol.codec import sha256
from runtime.artifact_cache import ArtifactCache
from runtime.compiler import CompileLimits, Compiler, ModuleSource
from runtime.engine import engine_id
from tests.runtime.modules import module

GOOD = module()
GOOD_HASH = sha256(GOOD)
BIG = module(more="(func $f)" + "(func (call $f) (call $f) (call $f))" * 15_000)
"""An admissible module that takes seconds of CPU."""


def new_compiler(folder: Path, source: ModuleSource | None = None, **limits: float) -> Compiler:
    modules = {sha256(code): code for code in (GOOD, BIG)}
    cache = ArtifactCache(folder / "artifacts", b"k" * 32, engine_id())
    wanted = CompileLimits(**limits)  # type: ignore[arg-type]
    return Compiler(cache, engine_id(), source or modules.get, limits=wanted)
