"""Files that operators name: read with a limit, written whole or not at all, errors in one line.

Every error is a `ConfigError` or an `OutputError` that says what the file is for, where it is,
what is wrong and, where that helps, what to do.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from protocol.text import TextError, decode_text
from validator_node.errors import ConfigError, OutputError

TEXT_LIMIT_BYTES = 1024 * 1024
_ADVICE = {
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EROFS: "name a place that can be written to",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ELOOP: "mend the symbolic link, which leads to itself",
}
OPERATORS_ERRNOS = frozenset(_ADVICE) | {
    *(errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO, errno.ENFILE, errno.ENOTEMPTY),
    *(errno.EBUSY, errno.ETXTBSY, errno.ENXIO, errno.ENODEV, errno.EXDEV, errno.ESTALE),
}
"""What files and disks do to a program; anything else is the program's own fault."""


def os_words(error: OSError) -> str:
    """Return what the system says, and what to do about it."""
    words = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    return f"{words}; {advice}" if advice else words


def read_file(path: Path, what: str, limit_bytes: int) -> bytes:
    """Return the content of the file that is the operator's `what`. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {os_words(error)}") from error
    except ValueError as error:  # a path with a zero byte
        raise ConfigError(f"{what} {str(path)!r}: is no path: {error}") from error
    if len(data) > limit_bytes:
        raise ConfigError(f"{what} {path}: is no {what}: it has more than {limit_bytes:,} bytes")
    return data


def read_text(path: Path, what: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """Return the text of a file that a person wrote. Raises `ConfigError`."""
    try:
        return decode_text(read_file(path, what, limit_bytes))
    except TextError as error:
        raise ConfigError(f"{what} {path}: {error}") from error


def write_file(path: Path, what: str, data: bytes) -> None:
    """Write the operator's `what`; `OutputError` leaves what was there before.

    What is no file, such as a terminal or a pipe, is written as it comes.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        aside = path.with_name(f"{path.name}.part")
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{what} {path}: {os_words(error)}") from error
    except ValueError as error:
        raise OutputError(f"{what} {str(path)!r}: is no path: {error}") from error
