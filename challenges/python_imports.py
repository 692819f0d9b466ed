"""What a Python challenge imports: looked at before the build, which takes 20 s to find out.

Rules:

- A component holds the source's own files, the kit's, and CPython's standard library, nothing else.
- Only plain imports at the top level are judged: one inside `try` may be meant to fail.
- The standard library's names are those of the Python that runs here and of the one in the
  component; a module that the component's own lacks is left to the build to refuse.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from challenges.errors import BuildError, MistakeError

_NEWER = frozenset({"annotationlib", "compression"})
"""Modules of CPython 3.14, the component's, that Python 3.11 does not have."""


def check_imports(files: Sequence[Path], kit: Iterable[Path]) -> None:
    """Refuse the first import that cannot be in the component.

    Raises `MistakeError`, and `BuildError` for a file that is no Python.
    """
    own = {path.stem for path in files} | {path.stem for path in kit}
    known = own | sys.stdlib_module_names | _NEWER
    for path in files:
        for name, line in _imported(parse(path)):
            if name not in known:
                raise MistakeError(
                    f"{path}:{line}",
                    f"an import of {name!r}",
                    "the standard library, platform_guest, or a file beside challenge.py",
                    f"Put what you need of it into {path.parent}/ as {name}.py; "
                    "installed packages and sub-folders are not seen.",
                )


def parse(path: Path) -> ast.Module:
    """Return a source's syntax tree. Raises `BuildError`."""
    try:
        return ast.parse(path.read_bytes())  # as Python reads it: with or without a byte order mark
    except SyntaxError as error:
        where = f"{path}:{error.lineno}" if error.lineno else str(path)
        raise BuildError(f"{where}: {error.msg}") from None
    except ValueError as error:
        raise BuildError(f"{path}: {error}") from None


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], node.lineno
