"""Twenty-odd ways in which a file or a folder is not what a command expects."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

HUGE_BYTES = 300 * 1024 * 1024
"""More than any limit; a sparse file."""

Damage = Callable[[Path], None]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rewritten(change: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path) -> None:
        mode = path.stat().st_mode
        path.write_bytes(change(path.read_bytes()))
        path.chmod(mode)

    return damage


def _replaced(make: Callable[[Path], None]) -> Damage:
    def damage(path: Path) -> None:
        _remove(path)
        make(path)

    return damage


def _flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else b"\x01"


def _noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


def _huge(path: Path) -> None:
    os.truncate(path, HUGE_BYTES)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


FILE_DAMAGES: dict[str, Damage] = {
    "missing": _remove,
    "empty": _rewritten(lambda _: b""),
    "last_byte_cut": _rewritten(lambda data: data[:-1]),
    "half": _rewritten(lambda data: data[: len(data) // 2]),
    "one_byte": _rewritten(lambda data: data[:1]),
    "twice": _rewritten(lambda data: data + data),
    "bit_flipped": _rewritten(_flip),
    "utf16": _rewritten(lambda data: data.decode("latin-1").encode("utf-16")),
    "latin1": _rewritten(lambda data: data + b"# Gr\xfc\xdfe\n"),
    "byte_order_mark": _rewritten(lambda data: b"\xef\xbb\xbf" + data),
    "crlf": _rewritten(lambda data: data.replace(b"\n", b"\r\n")),
    "noise": _rewritten(lambda _: _noise(4096)),
    "zeros": _rewritten(lambda data: bytes(len(data) + 1)),
    "a_list": _rewritten(lambda _: b"[]"),
    "a_number": _rewritten(lambda _: b"7"),
    "nested": _rewritten(lambda _: b"a = " + b"[" * 100_000),
    "nested_json": _rewritten(lambda _: b'{"a": ' * 100_000),
    "control_characters": _rewritten(lambda _: b"\x1b[2J\x07 = '\x1b[31m'\n"),
    "huge": _huge,
    "folder": _replaced(Path.mkdir),
    "link_to_nothing": _replaced(lambda path: path.symlink_to("nothing")),
    "link_to_itself": _replaced(lambda path: path.symlink_to(path.name)),
    "socket": _replaced(_socket),
    "null_device": _replaced(lambda path: path.symlink_to("/dev/null")),
    "endless_device": _replaced(lambda path: path.symlink_to("/dev/zero")),
}
"""What happens to files. `no_rights` stands apart: it needs another user."""


def _named(pattern: str, damage: Damage) -> Damage:
    def damaged(path: Path) -> None:
        for found in sorted(path.glob(pattern)):
            if found.is_file():
                damage(found)

    return damaged


FOLDER_DAMAGES: dict[str, Damage] = {
    "missing": _remove,
    "empty": _replaced(Path.mkdir),
    "file": _replaced(lambda path: path.write_bytes(b"text")),
    "link_to_nothing": _replaced(lambda path: path.symlink_to("nothing")),
    "link_to_itself": _replaced(lambda path: path.symlink_to(path.name)),
    "null_device": _replaced(lambda path: path.symlink_to("/dev/null")),
    "foreign_files": lambda path: (path / "notes.txt").write_text("mine") and None,
    **{
        f"{name}_{how}": _named(pattern, FILE_DAMAGES[how])
        for name, pattern in (
            ("current", "CURRENT"),
            ("manifest", "MANIFEST-*"),
            ("log", "*.log"),
            ("tables", "*.ldb"),
            ("everything", "*"),
        )
        for how in ("missing", "empty", "half", "noise", "bit_flipped", "folder")
    },
}
"""What happens to a database's folder, or to another one."""
