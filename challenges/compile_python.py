"""Builds Python challenges with PyPI ``componentize-py``, once for each content of the sources.

Rules:

- A component holds CPython and the challenge, imported and ready: 18 MB, some 20 s to build. Two
  builds of the same sources differ, so what identifies a component is its hash, which a network
  pins; nobody can make it again. It is built once and then kept.
- The cache's key is the hash of the tool's version, the kit's files and the sources. What was built
  on this machine for this key is the answer, also to ``build --check``.
- The functions that ``challenge.py`` defines decide the world: ``evaluate``, or the four of a
  contest (``runtime.contest``).
- Sources are copied into a fresh folder together with the SDK; nothing else is importable.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from challenges.cache import cache_folder
from challenges.errors import BuildError, ToolMissingError

VERSION = "0.25.1"
TOOLCHAIN = f"componentize-py {VERSION}"
BUILD_LIMIT_S = 600
MAX_KEPT = 8
"""Components kept in the cache; the least recently used go first."""
SDK = Path(__file__).parent / "sdk" / "python"
ENTRY = "challenge.py"
CONTEST = frozenset({"questions", "load", "answer", "score"})


def tool_problem() -> str | None:
    """Return why Python challenges cannot be built on this machine, or None."""
    advice = f"run `{Path(sys.executable).name} -m pip install componentize-py=={VERSION}`"
    try:
        found = importlib.metadata.version("componentize-py")
    except importlib.metadata.PackageNotFoundError:
        return f"the Python component builder is not installed: {advice}"
    if found != VERSION:
        return f"componentize-py {found} is installed, {VERSION} is expected: {advice}"
    return None


def compile_python(sources: Iterable[Path]) -> bytes:
    """Return the component of these ``.py`` files, from the cache or built now.

    Raises:
        ToolMissingError: componentize-py is not installed in the pinned version.
        BuildError: it refused a file, or no world fits the entry's functions.
    """
    files = sorted(sources)
    world = _world(files)
    kept = _folder() / f"{_key(files, world)}.wasm"
    try:
        component = kept.read_bytes()
        os.utime(kept)
    except FileNotFoundError:
        component = _build(files, world)
        _keep(kept, component)
    return component


def _folder() -> Path:
    return cache_folder() / "components"


def _key(files: Sequence[Path], world: str) -> str:
    digest = hashlib.sha256(f"{TOOLCHAIN}\n{world}\n".encode())
    for path in (*sorted(SDK.glob("*.py")), *sorted(SDK.glob("wit/*.wit")), *files):
        body = path.read_bytes()
        digest.update(f"{path.name} {len(body)}\n".encode() + body)
    return digest.hexdigest()


def _world(files: Sequence[Path]) -> str:
    entry = next((path for path in files if path.name == ENTRY), None)
    if entry is None:
        raise BuildError(f"source: found no {ENTRY}; expected the entry file of that name.")
    try:
        tree = ast.parse(entry.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{entry}: {error}") from None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if names >= CONTEST:
        return "contest"
    if "evaluate" in names:
        return "single"
    raise BuildError(
        f"{entry}: found {', '.join(sorted(names)) or 'no function'}; expected evaluate, or "
        f"{', '.join(sorted(CONTEST))}. Define them at the top level."
    )


def _build(files: Sequence[Path], world: str) -> bytes:
    problem = tool_problem()
    if problem is not None:
        raise ToolMissingError(problem)
    with tempfile.TemporaryDirectory(prefix="challenge-build-") as name:
        folder = Path(name)
        app = folder / "app"
        app.mkdir()
        for path in (*SDK.glob("*.py"), *files):
            shutil.copy(path, app / path.name)
        command = [sys.executable, "-c", "import componentize_py; componentize_py.script()"]
        command += ["-d", str(SDK / "wit"), "-w", world, "componentize", "--stub-wasi"]
        command += ["-p", "app", "platform_entry", "-o", "module.wasm"]
        _run(command, folder)
        return (folder / "module.wasm").read_bytes()


def _run(command: list[str], folder: Path) -> None:
    # an environment without packages: those of whoever builds are not the challenge's
    environment = os.environ | {"VIRTUAL_ENV": str(folder)}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"componentize-py did not end within {BUILD_LIMIT_S} s") from None
    if done.returncode:
        raise BuildError((done.stderr or done.stdout).strip())


def _keep(path: Path, component: bytes) -> None:
    """Store a component, complete or not at all, and drop what exceeds `MAX_KEPT`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(component)
    part.replace(path)
    kept = sorted(path.parent.glob("*.wasm"), key=lambda entry: entry.stat().st_mtime_ns)
    for old in kept[:-MAX_KEPT]:
        old.unlink(missing_ok=True)
