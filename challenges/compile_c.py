"""Compiles C challenges with PyPI ``ziglang``: a function of the files' contents alone.

Rules:

- Any machine with pip can repeat a build: the compiler is one wheel of a pinned version. Sources
  are copied into a fresh folder and named relative to it: no path of this machine reaches the
  module.
- The target is the wasm MVP with sign extension, which every engine profile admits.
- ``data/*.txt`` becomes a header with the file's bytes, ``data/*.csv`` one with the integers of
  its last column (``data/series.csv`` gives ``SERIES`` and ``SERIES_SIZE`` in ``series.h``).
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from challenges.errors import BuildError, ToolMissingError, with_paths
from protocol.text import decode_text

ZIGLANG_VERSION = "0.17.0"
"""Another version may compile to another module, so it is part of what a build means."""
TOOLCHAIN = f"ziglang {ZIGLANG_VERSION}"
COMPILE_LIMIT_S = 300
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

_NO_HEADER = re.compile(r"fatal error: '[^']+' file not found")
_NOT_EXPORTED = re.compile(r"symbol exported via --export not found: (\w+)")


def _array(name: str, ctype: str, values: Iterable[int]) -> str:
    """Write a C array and its length, sixteen values a line."""
    cells = [str(value) for value in values]
    lines = [",".join(cells[i : i + 16]) for i in range(0, len(cells), 16)]
    body = ",\n".join(lines)
    return f"#define {name}_SIZE {len(cells)}u\nstatic const {ctype} {name}[] = {{\n{body}}};\n"


def data_header(path: Path) -> str:
    """Return the C header that embeds one data file.

    Raises:
        BuildError: the file is neither ``.txt`` nor ``.csv``, or a row has no number.
    """
    name = path.stem.upper()
    if path.suffix == ".txt":
        return _array(name, "uint8_t", path.read_bytes())
    if path.suffix == ".csv":
        try:
            rows = decode_text(path.read_bytes()).split()[1:]
            return _array(name, "int32_t", (int(row.rpartition(",")[2]) for row in rows))
        except ValueError as error:
            raise BuildError(
                f"{path}: {error}; a heading and lines of NAME,NUMBER were expected"
            ) from None
    raise BuildError(f"{path.name}: a .txt or .csv data file was expected")


def compile_c(sources: Iterable[Path], data: Iterable[Path] = ()) -> bytes:
    """Compile C files (``.h`` among them are only copied) with the SDK into one module.

    Raises:
        ToolMissingError: the compiler is not installed in the pinned version.
        BuildError: it refused a file.
    """
    _check_compiler()
    with tempfile.TemporaryDirectory(prefix="challenge-build-") as name:
        folder = Path(name)
        files = [*sorted(sources), *sorted(SDK.glob("*.c"))]
        for path in (*files, *SDK.glob("*.h")):
            shutil.copy(path, folder / path.name)
        for path in data:
            (folder / f"{path.stem}.h").write_text(data_header(path), encoding="ascii")
        try:
            return _run(folder, [path.name for path in files if path.suffix == ".c"])
        except BuildError as error:
            raise BuildError(with_paths(str(error), files)) from None


def _check_compiler() -> None:
    advice = f"run `{Path(sys.executable).name} -m pip install ziglang=={ZIGLANG_VERSION}`"
    try:
        found = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        raise ToolMissingError(f"the C compiler is not installed: {advice}") from None
    if found != ZIGLANG_VERSION:
        raise ToolMissingError(
            f"ziglang {found} is installed, modules are pinned with {ZIGLANG_VERSION}: {advice}"
        )


def _run(folder: Path, sources: Sequence[str]) -> bytes:
    exports = [f"-Wl,--export={name}" for name in EXPORTS]
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *exports, "-o", "module.wasm"]
    cache = str(folder / "cache")
    try:
        done = subprocess.run(
            [*command, *sources],
            cwd=folder,
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            timeout=COMPILE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"the C compiler did not end within {COMPILE_LIMIT_S} s") from None
    if done.returncode:
        raise BuildError(_told(done.stderr))
    return (folder / "module.wasm").read_bytes()


def _told(stderr: str) -> str:
    missing = _NOT_EXPORTED.search(stderr)
    if missing is None and _NO_HEADER.search(stderr):
        return (
            f"{stderr.strip()}\nThere is no libc: include platform_guest.h, stdint.h, stddef.h and "
            "stdbool.h, a header of source/, or one made from data/."
        )
    if missing is None:
        return stderr.strip()
    name = missing.group(1)
    return (
        f"source: found no function {name}; expected one that is exported. "
        f"Define `PG_EXPORT({name})` as in platform_guest.h."
    )
