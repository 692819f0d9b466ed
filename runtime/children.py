"""How the processes that see foreign code are started: a made environment and a safe command."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs `module` of this package without the user's own packages.

    `-P`: the current folder is not searched for modules.
    """
    return (sys.executable, "-P", "-s", "-m", module, *arguments)


def environment() -> dict[str, str]:
    """Return an environment made here, not inherited: a child sees no secret of the node's."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    return {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
