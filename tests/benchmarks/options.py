"""What the command line of the benchmarks sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """One run."""

    seconds: float
    """Length of one measurement, after the warm-up."""
    folder: Path | None
    """Parent of the data folders; None for the system's temporary folder."""
    nodes: list[int]
    windows: list[int]
    transports: list[str]
    """The first one is the baseline of the ratios."""
    profile: bool
