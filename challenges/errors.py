"""What a challenge's author can mend. Every error is one line: file, what, expected, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


class KitError(Exception):
    """Base of the author kit's errors; the text is a single line unless a compiler spoke."""


class MistakeError(KitError):
    """Something in a challenge's folder is wrong.

    Attributes:
        where: the file, with a field or a vector's name behind it where that helps.
        found: what stands there.
        expected: what should.
        advice: what to do, as an imperative.
    """

    def __init__(self, where: Path | str, found: str, expected: str, advice: str) -> None:
        super().__init__(f"{where}: found {found}; expected {expected}. {advice}")
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.advice = advice


class BuildError(KitError):
    """A compiler is missing or refused a source; then the text is its own."""


class ToolMissingError(BuildError):
    """A tool chain is not installed on this machine; the text says how to get it."""


def with_paths(said: str, files: Iterable[Path]) -> str:
    """Return what a compiler said in a copy of the sources, with the sources' own paths.

    Compilers name a place as ``name:LINE`` or ``name(LINE,COLUMN)``.
    """
    for path in files:
        whole = str(path).replace("\\", r"\\")  # a replacement reads backslashes
        said = re.sub(rf"(?<![\w/.]){re.escape(path.name)}(?=[:(]\d)", whole, said)
    return said
