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
from collections.abc import Iterable, Sequence
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
        raise BuildError(_told(done.stderr or done.stdout))


_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt))(?::.*)?$")
_PLACE = re.compile(r'^\s*File "/0/([^"]+)", line (\d+)')


def _told(output: str) -> str:
    """Return the Python error and its place, if it is one; all that was said if not."""
    lines = output.partition("Stack backtrace:")[0].rstrip().splitlines()
    errors = [line.strip() for line in lines if _ERROR.match(line.strip())]
    if not errors:
        return "\n".join(lines)
    kit = {path.name for path in SDK.glob("*.py")}
    found = [match for match in map(_PLACE.match, lines) if match and match[1] not in kit]
    where = f"source/{found[-1][1]}:{found[-1][2]}" if found else "source"
    advice = "Mend the line: the top level of the source runs during the build."
    if "ModuleNotFoundError" in errors[-1]:
        advice = "Put what you need into source/: no package of this machine is seen."
    return f"{where}: {errors[-1]}. {advice}"
