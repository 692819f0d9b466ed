"""Where the kit keeps what it built or installed, in the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return our folder in `$XDG_CACHE_HOME` or `~/.cache`; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "validator-node"
