"""Builds the example challenges' modules and checks them against the committed ones.

``python -m challenges.build [NAME...]`` compiles each example and prints two hashes: the build's
and the committed ``module.wasm``'s; it exits 1 when they differ. ``--write`` replaces the module.

Rules:

- The compiler is PyPI ``ziglang``, so any machine with pip can repeat a build. Sources are copied
  into a fresh folder and named relative to it: no path of this machine reaches the module.
- The target is the wasm MVP with sign extension, which every engine profile admits.
- ``data/*.txt`` becomes a header with the file's bytes, ``data/*.csv`` one with the integers of
  its last column (``data/series.csv`` gives ``SERIES`` and ``SERIES_SIZE`` in ``series.h``).
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from challenges.examples import FOLDER, names

SDK = Path(__file__).parent / "sdk" / "c"
STACK_BYTES = 16_384  # the deepest example needs under 2 KiB
EXPORTS = ("evaluate", "alloc", "abi_version")
FLAGS = (
    "-target",
    "wasm32-freestanding",
    "-mcpu=mvp+sign_ext",
    "-std=c11",
    "-O2",
    "-g0",
    "-nostdlib",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-ident",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--no-entry",
    "-Wl,--export-memory",
    "-Wl,--strip-all",
    f"-Wl,-z,stack-size={STACK_BYTES}",
)


class BuildError(Exception):
    """The compiler refused a source; the text is its own."""


def _array(name: str, ctype: str, values: Iterable[int]) -> str:
    """Write a C array and its length, sixteen values a line."""
    cells = [str(value) for value in values]
    lines = [",".join(cells[i : i + 16]) for i in range(0, len(cells), 16)]
    body = ",\n".join(lines)
    return f"#define {name}_SIZE {len(cells)}u\nstatic const {ctype} {name}[] = {{\n{body}}};\n"


def data_header(path: Path) -> str:
    """Return the C header that embeds one data file.

    Raises:
        BuildError: the file is neither ``.txt`` nor ``.csv``.
    """
    name = path.stem.upper()
    if path.suffix == ".txt":
        return _array(name, "uint8_t", path.read_bytes())
    if path.suffix == ".csv":
        rows = path.read_text(encoding="ascii").split()[1:]
        return _array(name, "int32_t", (int(row.rpartition(",")[2]) for row in rows))
    raise BuildError(f"{path.name}: a .txt or .csv data file was expected")


def _run(folder: Path, sources: Sequence[str]) -> bytes:
    exports = [f"-Wl,--export={name}" for name in EXPORTS]
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *exports, "-o", "module.wasm"]
    cache = str(folder / "cache")
    done = subprocess.run(
        [*command, *sources],
        cwd=folder,
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(done.stderr.strip())
    return (folder / "module.wasm").read_bytes()


def compile_c(sources: Iterable[Path], data: Iterable[Path] = ()) -> bytes:
    """Compile C files with the SDK into one module; a function of the files' contents.

    Raises:
        BuildError: the compiler is not installed or refused a file.
    """
    with tempfile.TemporaryDirectory(prefix="challenge-build-") as name:
        folder = Path(name)
        units = [*sorted(sources), *sorted(SDK.glob("*.c"))]
        for path in (*units, *SDK.glob("*.h")):
            shutil.copy(path, folder / path.name)
        for path in data:
            (folder / f"{path.stem}.h").write_text(data_header(path), encoding="ascii")
        return _run(folder, [path.name for path in units])


def build(name: str) -> bytes:
    """Compile the named example from its ``source/`` and ``data/``.

    Raises:
        BuildError: see `compile_c`.
    """
    folder = FOLDER / name
    data = [path for path in (folder / "data").iterdir() if path.suffix in {".txt", ".csv"}]
    return compile_c((folder / "source").glob("*.c"), data)


def _check(name: str, *, write: bool) -> bool:
    module = build(name)
    path = FOLDER / name / "module.wasm"
    if write:
        path.write_bytes(module)
    committed = path.read_bytes() if path.exists() else b""
    print(f"{name}: {len(module)} bytes")  # noqa: T201 - a command's output
    print(f"  built      {hashlib.sha256(module).hexdigest()}")  # noqa: T201
    print(f"  committed  {hashlib.sha256(committed).hexdigest()}")  # noqa: T201
    return module == committed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m challenges.build", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every example")
    parser.add_argument("--write", action="store_true", help="replace the committed modules")
    chosen = parser.parse_args(arguments)
    known = names()
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"no example is called {unknown[0]!r}; there are {', '.join(known)}")
    results = [_check(name, write=chosen.write) for name in chosen.names or known]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
