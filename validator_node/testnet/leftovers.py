"""What a run leaves on the machine outside its folder, and its removal.

Namespaces, the bridge and mounts carry the runner's process id in their names. What belongs to a
runner that no longer runs is left over from a crash.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

PREFIX = "vt"
COMMAND_S = 20.0
_NAMES = re.compile(rf"{PREFIX}(\d+)[a-z]\w*")
_MOUNTS = Path("/proc/mounts")
_NAMESPACES = Path("/run/netns")
_DEVICES = Path("/sys/class/net")
_Test = Callable[[int], bool]


def name_of(runner_pid: int, kind: str, number: int | None = None) -> str:
    """Return the name of something of a run; short enough for a network device (15 characters)."""
    return f"{PREFIX}{runner_pid}{kind}{'' if number is None else number}"


def runner_of(name: str) -> int | None:
    """Return the process id of the runner that made `name`, or None if no runner did."""
    match = _NAMES.fullmatch(name)
    return int(match[1]) if match else None


def remove_run(runner_pid: int) -> list[str]:
    """Remove what a runner has left; return what that was."""
    return _remove(lambda owner: owner == runner_pid)


def remove_dead() -> list[str]:
    """Remove what runners have left that no longer run; return what that was."""
    return _remove(lambda owner: owner != os.getpid() and not psutil.pid_exists(owner))


def mounts() -> list[tuple[str, str]]:
    """Return (source, mount point) of every mount of a run."""
    rows = [line.split(" ") for line in _MOUNTS.read_text().splitlines()]
    return [(row[0], _unescaped(row[1])) for row in rows if runner_of(row[0]) is not None]


def _unescaped(path: str) -> str:
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), path)


def _remove(is_meant: _Test) -> list[str]:
    removed = []
    for name in _names(_NAMESPACES, is_meant):
        _end_processes_in(name)
        _run(["ip", "netns", "del", name])
        removed.append(f"namespace {name}")
    for name in _names(_DEVICES, is_meant):
        if (_DEVICES / name).exists():  # a pair's other end goes with the first
            _run(["ip", "link", "del", name])
            removed.append(f"device {name}")
    for source, point in mounts():
        if is_meant(runner_of(source) or 0):
            _run(["umount", "-l", point])
            removed.append(f"mount {point}")
    return removed


def _names(folder: Path, is_meant: _Test) -> list[str]:
    if not folder.is_dir() or shutil.which("ip") is None:
        return []
    owners = {path.name: runner_of(path.name) for path in folder.iterdir()}
    return sorted(name for name, owner in owners.items() if owner is not None and is_meant(owner))


def _end_processes_in(namespace: str) -> None:
    found = subprocess.run(
        ["ip", "netns", "pids", namespace],  # noqa: S607 - wherever the system keeps it
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    for pid in found.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended meanwhile


def _run(command: list[str]) -> None:
    """Run a command; what it could not remove is found again by the next run."""
    subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False)
