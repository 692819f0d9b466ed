"""What the `challenge` commands accept as a payload, and as a hash."""

from __future__ import annotations

import re
from pathlib import Path

from challenges.errors import MistakeError
from validator_node.errors import NodeError

MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
HASH_BYTES = 32
_LIKE_A_PATH = re.compile(r"\S{0,250}/\S{1,250}|\S{1,250}\.[A-Za-z][A-Za-z0-9]{0,7}")
"""Words that are a file's name rather than a submission."""


def read_payload(words: str) -> bytes:
    """Return the bytes that `words` stand for.

    That is text:WORDS, hex:DIGITS, the path of a file, or else the words themselves. Raises
    `MistakeError` for wrong hex, for what looks like a path and is no file, and for a file that is
    too large or cannot be read.
    """
    kind, _, rest = words.partition(":")
    if kind == "text":
        return rest.encode()
    if kind == "hex":
        try:
            return bytes.fromhex(rest)
        except ValueError:
            advice = "Give two digits a byte, or text:WORDS."
            raise MistakeError("PAYLOAD", repr(rest[:40]), "hex digits", advice) from None
    path = Path(words)
    if not words or not _is_file(path):
        if _LIKE_A_PATH.fullmatch(words):
            advice = f"Mend the path, or write text:{words} if these are the words themselves."
            raise MistakeError("PAYLOAD", f"no file {words!r}", "a file", advice)
        return words.encode()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PAYLOAD_BYTES + 1)
    except OSError as error:
        found = error.strerror or str(error)
        raise MistakeError("PAYLOAD", found, "a readable file or text:WORDS", "Mend it.") from None
    if len(data) > MAX_PAYLOAD_BYTES:
        limit = f"{MAX_PAYLOAD_BYTES:,} bytes at most"
        raise MistakeError(path, "a larger file", limit, "No network admits so much.")
    return data


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name: it is text
        return False


def read_hash(option: str, words: str) -> bytes:
    """Return 32 bytes from hex. Raises `NodeError`."""
    try:
        value = bytes.fromhex(words)
    except ValueError:
        value = b""
    if len(value) != HASH_BYTES:
        raise NodeError(
            f"{option}: found {words[:70]!r}; expected 32 bytes, 64 hex digits. "
            "Copy the whole value."
        )
    return value
