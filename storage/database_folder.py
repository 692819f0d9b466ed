"""A database's folder from outside: what lies in it, who has it open, and a way to only look.

Rules:
1. A database begins once, in a folder that holds nothing (`Contents.VOID`). LevelDB would also
   begin one in a full folder whose `CURRENT` is missing, and delete every table there is: data
   files without `CURRENT` are damage.
2. LevelDB writes when it is opened: its log becomes a table, its manifest a new one. Who only looks
   opens a *view*: a folder elsewhere with links to the tables, which LevelDB never changes, and
   copies of the few small files that it does. The original keeps every byte, may lie on a disk
   that is mounted read-only, and needs no right but to read.
3. A view holds a shared lock on the original's LOCK file: no node opens the database meanwhile, and
   several may look. A lock that the kernel gives up with the process leaves nothing behind.
4. Closing any descriptor of LOCK would give up the lock of a database that is open in this process:
   those are remembered, and refused before the file is touched.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from fnmatch import fnmatch
from pathlib import Path

from storage.errors import DatabaseError, DatabaseMissingError
from storage.leveldb_errors import explained, headless, locked

CURRENT = "CURRENT"
LOCK = "LOCK"
_TABLES = ("*.ldb", "*.sst")
_DATA = (*_TABLES, "*.log", "MANIFEST-*", CURRENT)
_LEFT_OVER = (LOCK, "LOG", "LOG.old")
_FLOCK = "hhqqi4x"
"""struct flock of 64-bit Linux: kind, whence, start, length, pid."""

_open_here: set[str] = set()


class Contents(Enum):
    """What a folder holds."""

    VOID = "nothing, or nothing that was ever written by a database"
    HEADLESS = "data files without CURRENT"
    WHOLE = "data files and CURRENT; whether they are sound is another question"


def contents(path: Path) -> Contents:
    """Return what lies in `path`, which need not be there. Raises `DatabaseError`."""
    try:
        names = [entry.name for entry in path.iterdir()]
    except FileNotFoundError:
        return Contents.VOID
    except OSError as error:
        raise explained(path, error) from error
    if CURRENT in names:
        return Contents.WHOLE
    held = any(fnmatch(name, pattern) for name in names for pattern in _DATA)
    return Contents.HEADLESS if held else Contents.VOID


def clear_void(path: Path) -> None:
    """Remove what LevelDB leaves where it found nothing to open. Raises `OSError`.

    Raises `DatabaseError` when anything else lies there: it belongs to somebody.
    """
    found = sorted(path.iterdir()) if path.exists() else []
    foreign = [entry.name for entry in found if entry.name not in _LEFT_OVER]
    if foreign:
        raise DatabaseError(
            f"database {path}: the folder holds {foreign[0]}, which is no database's file; choose "
            f"another folder, or move it away"
        )
    for entry in found:
        entry.unlink()


def check_there(path: Path) -> None:
    """Raise `DatabaseMissingError` or `DatabaseDamagedError` unless a database can be opened."""
    found = contents(path)
    if found is Contents.VOID:
        raise DatabaseMissingError(f"database {path}: does not exist")
    if found is Contents.HEADLESS:
        raise headless(path)


def note_open(path: Path) -> None:
    """Remember that this process has the database open (rule 4)."""
    _open_here.add(os.path.realpath(path))


def note_closed(path: Path) -> None:
    """Forget it again."""
    _open_here.discard(os.path.realpath(path))


def holder(path: Path) -> int | None:
    """Return the process that has the database open, None where that is nobody or not known."""
    if os.path.realpath(path) in _open_here:
        return os.getpid()
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return None
    finally:
        os.close(fd)
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


@contextmanager
def kept_closed(path: Path) -> Iterator[None]:
    """Keep every node from opening the database for a while; nothing is written (rule 3).

    Raises `DatabaseLockedError`. A folder without LOCK was never open, or is not LevelDB's doing:
    there is nothing to hold.
    """
    if os.path.realpath(path) in _open_here:
        raise locked(path, "this very process", os.getpid())
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, IsADirectoryError):
        yield
        return
    except OSError as error:
        raise explained(path, error) from error
    try:
        wanted = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            raise locked(path, str(error), holder(path)) from error
        yield
    finally:
        os.close(fd)


@contextmanager
def view_of(path: Path) -> Iterator[Path]:
    """Give a folder that LevelDB may open in the place of `path` (rules 2 and 3).

    Raises `DatabaseMissingError`, `DatabaseDamagedError`, `DatabaseLockedError`, and
    `DatabaseError` when there is no room for temporary files.
    """
    check_there(path)
    with kept_closed(path):
        try:
            made = tempfile.mkdtemp(prefix="validator-node-look-")
        except OSError as error:
            raise DatabaseError(
                f"database {path}: looking at it needs a temporary folder: {error}; name one in "
                f"the environment variable TMPDIR"
            ) from error
        folder = Path(made)
        try:
            try:
                link_or_copy(path, folder)
            except OSError as error:
                raise explained(path, error) from error
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def link_or_copy(path: Path, target: Path) -> None:
    """Give `target` the database's files: tables by a link, the others copied. Raises `OSError`."""
    for entry in sorted(path.resolve().iterdir()):
        known = any(fnmatch(entry.name, pattern) for pattern in (*_DATA, LOCK))
        if known and not entry.is_file():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(entry))
        if any(fnmatch(entry.name, pattern) for pattern in _TABLES):
            (target / entry.name).symlink_to(entry)
        elif any(fnmatch(entry.name, pattern) for pattern in _DATA):
            shutil.copyfile(entry, target / entry.name)
