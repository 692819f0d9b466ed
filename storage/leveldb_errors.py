"""What LevelDB says, as errors of the storage that name what mends them.

LevelDB has two kinds of errors, "Corruption" and "IO error", and the kind says little: an emptied
table is an IO error, a missing one a corruption. The words behind it decide, and each cause has one
piece of advice. What `db repair` is named for it mends, or it says that nothing does.
"""

from __future__ import annotations

from pathlib import Path

import plyvel

from storage.errors import (
    DatabaseDamagedError,
    DatabaseDiskFullError,
    DatabaseError,
    DatabaseForbiddenError,
    DatabaseLockedError,
    DatabaseTooManyFilesError,
)

REPAIR = "keep the journal, and run `validator-node db repair`"
"""What mends a damaged database, or says that it must be synced again."""

_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_FORBIDDEN = ("Permission denied", "Read-only file system", "Operation not permitted")
_TOO_MANY = "Too many open files"
_DAMAGED = (
    "Invalid argument",  # a table is shorter than its footer: emptied or cut
    "No such file or directory",
    "Is a directory",
    "No such device",  # a folder in a table's place
    "Input/output error",
    "File name too long",  # what CURRENT names is no manifest
)
_LONGEST_WORDS = 300


def explained(path: Path, error: Exception, opened: Path | None = None) -> DatabaseError:
    """Return what happened to the database in the folder `path`, and what mends it.

    `opened` is the folder that LevelDB was given, when it is another one.
    """
    words = said(error)
    if opened is not None:
        words = words.replace(str(opened), str(path))
    place = f"database {path}: {words}"
    if words.startswith("IO error: lock "):
        return locked(path, words)
    if any(word in words for word in _FULL):
        return DatabaseDiskFullError(
            f"{place}; the disk is full: make room and start again, what was written is whole"
        )
    if any(word in words for word in _FORBIDDEN):
        return DatabaseForbiddenError(
            f"{place}; run the command as the user that owns the folder, or give it to this one "
            f"with chown; a disk that is mounted read-only is mounted for writing"
        )
    if _TOO_MANY in words:
        return DatabaseTooManyFilesError(f"{place}; raise the limit of open files (`ulimit -n`)")
    if isinstance(error, plyvel.CorruptionError) or any(word in words for word in _DAMAGED):
        return DatabaseDamagedError(f"{place}; {REPAIR}")
    return DatabaseError(place)


def locked(path: Path, words: str, pid: int | None = None) -> DatabaseLockedError:
    """Return the error for a database that is open elsewhere; `pid` is whose, where known."""
    holder = "another process" if pid is None else f"process {pid}"
    return DatabaseLockedError(
        f"database {path}: open in {holder} ({words}); stop the other node, or give this one its "
        f"own data folder; do not delete the LOCK file"
    )


def headless(path: Path) -> DatabaseDamagedError:
    """Return the error for a folder that holds LevelDB's data and not the file `CURRENT`."""
    return DatabaseDamagedError(
        f"database {path}: the file CURRENT is missing and data files are there; {REPAIR}"
    )


def said(error: Exception) -> str:
    """Return LevelDB's message as one line; it may hold what a damaged file holds."""
    first = error.args[0] if error.args else ""
    words = first.decode(errors="replace") if isinstance(first, bytes) else str(error)
    if len(words) > _LONGEST_WORDS:  # the cause stands at the end
        words = f"{words[: _LONGEST_WORDS // 2]}...{words[-_LONGEST_WORDS // 2 :]}"
    return " ".join(words.split())
