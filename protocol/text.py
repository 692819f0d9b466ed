r"""Text that people write into files, and text of strangers that people are shown.

Rules:

1. A file that a person wrote is UTF-8, whatever the machine's locale says, with or without a byte
   order mark. Anything else is refused, and the refusal says what it looks like.
2. What a miner, a challenge or a peer said may hold anything. Before it reaches a terminal or a log
   that people read, `printable` replaces what would not be shown but obeyed: control characters,
   line breaks, invisible and direction-changing characters. They become escapes as in Python's
   strings (`\x1b`), so nothing is lost.
"""

from __future__ import annotations

import unicodedata

_BOM = "\ufeff"
_WIDE_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"})
"""Unicode's categories: control, format, surrogate, line and paragraph separators, unassigned."""
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need."""


class TextError(ValueError):
    """Bytes that are no UTF-8 text; the message says where, and what they look like."""


def decode_text(data: bytes) -> str:
    """Return the text in the bytes of a file that a person wrote. Raises `TextError`."""
    for bom, name in _WIDE_BOMS:
        if data.startswith(bom):
            raise TextError(f"is text in {name}; save it as UTF-8")
    try:
        return data.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise TextError("is no text: it holds binary data") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"is not UTF-8 (line {line}, byte {error.start}); save it as UTF-8"
        ) from None


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return `text` with escapes for what a terminal would obey; with `lines`, `\n` and `\t` stay.

    A text without such characters is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_shown(c) or (lines and c in "\n\t") else _escape(c) for c in text)


def _is_shown(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _OBEYED


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
