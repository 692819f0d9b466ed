"""A new challenge's folder: complete, so that it builds and passes its vectors at once.

The templates lie in ``sdk/<language>/template``; ``@NAME@``, ``@TITLE@`` and ``@LANGUAGE@`` are
replaced. What a template does not have comes from the C template: vectors and README are the same
for all languages, because the same challenge is written in each.
"""

from __future__ import annotations

import re
from pathlib import Path

from challenges.errors import MistakeError
from challenges.project import Language, Project, load_project

SDK = Path(__file__).parent / "sdk"
MAX_NAME_CHARS = 64
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


def new_project(parent: Path, name: str, language: Language) -> Project:
    """Make the folder ``parent/name``.

    Raises:
        MistakeError: the name is not a challenge id, or something of that name exists.
    """
    if not _NAME.match(name) or len(name) > MAX_NAME_CHARS:
        raise MistakeError(
            "NAME",
            repr(name),
            f"a lower-case letter, then letters, digits and _; {MAX_NAME_CHARS} at most",
            "Choose another name; it becomes the challenge's id.",
        )
    folder = parent / name
    if folder.exists():
        raise MistakeError(folder, "something there already", "a free name", "Choose another name.")
    words = {
        "@NAME@": name,
        "@TITLE@": name.replace("_", " ").capitalize(),
        "@LANGUAGE@": language,
    }
    for source in _template(language):
        target = folder / source[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source[0].read_text(encoding="utf-8")
        for mark, word in words.items():
            text = text.replace(mark, word)
        target.write_text(text, encoding="utf-8")
    return load_project(folder)


def _template(language: Language) -> list[tuple[Path, Path]]:
    """Return the template's files, each with its path in the new folder."""
    own, shared = SDK / language / "template", SDK / "c" / "template"
    found = [(path, path.relative_to(own)) for path in sorted(own.rglob("*")) if path.is_file()]
    names = {name for _, name in found}
    common = [(path, path.relative_to(shared)) for path in sorted(shared.glob("*.*"))]
    return found + [(path, name) for path, name in common if name not in names]
