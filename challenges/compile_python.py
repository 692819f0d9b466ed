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
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from challenges import kept
from challenges.errors import BuildError, ToolMissingError
from challenges.progress import Say, silent
from challenges.python_imports import check_imports, parse

VERSION = "0.25.1"
TOOLCHAIN = f"componentize-py {VERSION}"
BUILD_LIMIT_S = 600
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


def compile_python(sources: Iterable[Path], say: Say = silent) -> bytes:
    """Return the component of these ``.py`` files, from the cache or built now.

    Raises:
        ToolMissingError: componentize-py is not installed in the pinned version.
        MistakeError: a file imports what cannot be in a component.
        BuildError: it refused a file, or no world fits the entry's functions.
    """
    files = sorted(sources)
    world = _world(files)
    kit = sorted(SDK.glob("*.py"))
    path = kept.kept_path(
        "components", f"{TOOLCHAIN}\n{world}", (*kit, *sorted(SDK.glob("wit/*.wit")), *files)
    )
    component = kept.find(path)
    if component is None:
        check_imports(files, kit)
        say("building: CPython and the source become one component, about 20 s")
        component = _build(files, world)
        kept.keep(path, component)
    return component


def _world(files: Sequence[Path]) -> str:
    entry = next((path for path in files if path.name == ENTRY), None)
    if entry is None:
        raise BuildError(f"source: found no {ENTRY}; expected the entry file of that name.")
    names = {node.name for node in parse(entry).body if isinstance(node, ast.FunctionDef)}
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
        _run(command, folder, {path.name: path for path in files})
        return (folder / "module.wasm").read_bytes()


def _run(command: list[str], folder: Path, sources: Mapping[str, Path]) -> None:
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
        raise BuildError(_told(done.stderr or done.stdout, sources))


_PLACE = re.compile(r'^\s*File "/0/([^"]+)", line (\d+)', re.MULTILINE)
_CAUSE = re.compile(r"^Caused by:\s+(?:\d+: )?(.+)", re.MULTILINE)


def _told(output: str, sources: Mapping[str, Path]) -> str:
    """Return an error of the source and its place; what else was said without Rust's backtrace."""
    said = output.partition("Stack backtrace:")[0].strip()
    cause = _CAUSE.search(said)
    if cause is None or "Traceback (most recent call last)" not in said:
        return said
    places = [place for place in _PLACE.findall(said) if place[0] in sources]
    where = f"{sources[places[-1][0]]}:{places[-1][1]}" if places else "source"
    advice = "Mend the line: the top level of the source runs during the build."
    if cause[1].startswith("ModuleNotFoundError"):
        advice = "The component's Python has no such module: put what you need of it into source/."
    return f"{where}: {cause[1].strip()}. {advice}"
