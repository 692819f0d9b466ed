"""Disks that can be full: a small file system for a node, or a limit on the size of its files.

Where the system lets us mount, the state of a node that will run out of space lies on a tmpfs from
the beginning; a ballast file fills it and its removal ends the event. Elsewhere the running
process' file size limit is lowered: each write beyond it fails, as on a full disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from validator_node.errors import TestnetError
from validator_node.testnet import leftovers

SIZE_BYTES = 256 * 1024 * 1024
"""Of the small file system: more than a node writes in a trial."""
BALLAST = "ballast"
CHUNK_BYTES = 1024 * 1024
COMMAND_S = 20.0
LIMIT_BYTES = 4096
"""No file may grow beyond this while the limit stands for a full disk."""


@dataclass
class Disk:
    """Where one node's state lies."""

    folder: Path
    mounted: bool
    limits: tuple[int, int] | None = None
    """The process' own limits while ours are in force."""


def make_disk(folder: Path, number: int, size_bytes: int = SIZE_BYTES) -> Disk:
    """Make the disk of a node's state at `folder`, a small file system if the system lets us.

    What the folder holds already is on the disk then.
    """
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return Disk(folder, mounted=False)
    source = leftovers.name_of(os.getpid(), "d", number)
    before = folder.with_name(folder.name + ".before")
    folder.rename(before)
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", source, str(folder)],  # noqa: S607
        capture_output=True,
        timeout=COMMAND_S,
        check=False,
    )
    shutil.copytree(before, folder, dirs_exist_ok=True)
    shutil.rmtree(before)
    return Disk(folder, mounted=done.returncode == 0)


def fill(disk: Disk, process: psutil.Process) -> None:
    """Let the node write nothing more."""
    if disk.mounted:
        _fill_up(disk.folder / BALLAST)
        return
    disk.limits = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (LIMIT_BYTES, disk.limits[1]))


def _fill_up(path: Path) -> None:
    zeros = bytes(CHUNK_BYTES)
    with path.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(zeros)
        except OSError as error:
            if error.errno != errno.ENOSPC:  # ENOSPC is what we are here for
                raise TestnetError(f"filling {path}: {error.strerror}") from error


def empty(disk: Disk, process: psutil.Process) -> None:
    """Give the space back."""
    if disk.mounted:
        (disk.folder / BALLAST).unlink(missing_ok=True)
    elif disk.limits is not None:
        with suppress(psutil.NoSuchProcess):  # it ended; its successor has no such limit
            process.rlimit(psutil.RLIMIT_FSIZE, disk.limits)
        disk.limits = None


def keep(disk: Disk) -> None:
    """Put what a small file system holds into a plain folder of the same name, and unmount it."""
    if not disk.mounted:
        return
    (disk.folder / BALLAST).unlink(missing_ok=True)
    copy = disk.folder.with_name(disk.folder.name + ".copy")
    shutil.copytree(disk.folder, copy)
    done = subprocess.run(
        ["umount", str(disk.folder)],  # noqa: S607 - wherever the system keeps it
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    if done.returncode:
        raise TestnetError(f"umount {disk.folder}: {done.stderr.strip()}; the files are in {copy}")
    disk.mounted = False
    disk.folder.rmdir()
    copy.rename(disk.folder)
