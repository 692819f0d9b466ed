"""Compiles AssemblyScript challenges with the pinned npm compiler, under Node.

Rules:

- The compiler is installed once, by ``npm ci`` from the kit's own lock file, which pins the version
  and the content of every package. It goes to the user's cache, never into a challenge's folder.
- ``source/*.ts`` and the SDK's ``platform.ts`` are copied into a fresh folder; the entry is
  ``challenge.ts``. No path of this machine reaches the module.
- Runtime ``stub`` (nothing is freed; an instance serves one evaluation), ``abort`` traps instead of
  being imported, and bulk memory is off, so that fuel is spent on plain instructions only.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from challenges import kept
from challenges.cache import cache_folder
from challenges.errors import BuildError, ToolMissingError, with_paths
from challenges.progress import Say, silent

SDK = Path(__file__).parent / "sdk" / "assemblyscript"
VERSION = "0.28.20"
TOOLCHAIN = f"assemblyscript {VERSION}"
ENTRY = "challenge.ts"
MIN_NODE = 20
INSTALL_LIMIT_S = 300
COMPILE_LIMIT_S = 300
FLAGS = (
    "--runtime",
    "stub",
    "--optimizeLevel",
    "3",
    "--shrinkLevel",
    "1",
    "--converge",
    "--noAssert",
    "--use",
    "abort=platform/abort",
    "--disable",
    "bulk-memory",
    "--disable",
    "nontrapping-f2i",
)


def node_problem() -> str | None:
    """Return why AssemblyScript cannot be compiled on this machine, or None."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return f"AssemblyScript needs Node {MIN_NODE} or newer with npm, and none is on the PATH"
    version = _run(["node", "--version"], Path.cwd(), 30).strip()
    major = version.lstrip("v").partition(".")[0]
    if not major.isdigit() or int(major) < MIN_NODE:
        return f"AssemblyScript needs Node {MIN_NODE} or newer, the PATH has {version}"
    return None


def kept_module(sources: Iterable[Path]) -> Path:
    """Return where the module of these files is kept once two builds made it alike."""
    how = " ".join((TOOLCHAIN, ENTRY, *FLAGS))
    return kept.kept_path("modules", how, (*sorted(SDK.glob("*.ts")), *sorted(sources)))


def compile_as(sources: Iterable[Path], say: Say = silent) -> bytes:
    """Compile AssemblyScript files with the SDK into one module.

    Raises:
        ToolMissingError: Node is missing or the compiler cannot be installed.
        BuildError: the compiler refused a file.
    """
    problem = node_problem()
    if problem is not None:
        raise ToolMissingError(f"{problem}: install it, or write the challenge in C")
    compiler, files = _installed(say), list(sources)
    with tempfile.TemporaryDirectory(prefix="challenge-build-") as name:
        folder = Path(name)
        for path in (*files, *SDK.glob("*.ts")):
            shutil.copy(path, folder / path.name)
        if not (folder / ENTRY).exists():
            raise BuildError(f"source: found no {ENTRY}; expected the entry file of that name.")
        command = ["node", str(compiler), ENTRY, "--outFile", "module.wasm", *FLAGS]
        try:
            _run(command, folder, COMPILE_LIMIT_S)
        except BuildError as error:
            raise BuildError(with_paths(str(error), files)) from None
        return (folder / "module.wasm").read_bytes()


def _installed(say: Say) -> Path:
    """Return the compiler's script; installs it when this lock file's is not in the cache."""
    lock = hashlib.sha256((SDK / "package-lock.json").read_bytes()).hexdigest()[:16]
    home = cache_folder() / f"assemblyscript-{VERSION}-{lock}"
    script = Path("node_modules", "assemblyscript", "bin", "asc.js")
    if not (home / script).exists():
        say(f"installing {TOOLCHAIN} with npm, 100 MB, once on this machine: about 20 s")
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="install-", dir=home.parent) as name:
            fresh = Path(name) / "tool"
            fresh.mkdir()
            for file in ("package.json", "package-lock.json"):
                shutil.copy(SDK / file, fresh / file)
            try:
                _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], fresh)
            except BuildError as error:
                raise ToolMissingError(f"npm could not install {TOOLCHAIN}: {error}") from error
            try:
                fresh.rename(home)
            except OSError:
                if not (home / script).exists():  # it is not that another build was faster
                    raise
    return home / script


def _run(command: list[str], folder: Path, limit_s: float = INSTALL_LIMIT_S) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} did not end within {limit_s:g} s") from None
    if done.returncode:
        raise BuildError((done.stderr or done.stdout).strip())
    return done.stdout
