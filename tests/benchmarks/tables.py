"""Small text tables, and the state of the machine they were measured on."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

FSYNC_SAMPLES = 100


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print right-aligned columns under their names, the first one left-aligned."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def ratio(value: float, baseline: float) -> str:
    """Return `value` as a multiple of the baseline."""
    return f"{value / baseline:.2f}x" if baseline else "-"


def fsync_ms(folder: Path) -> float:
    """Return the median duration of appending 600 bytes and syncing them, in milliseconds."""
    durations = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNC_SAMPLES):
            os.write(file.fileno(), bytes(600))
            began = time.perf_counter()
            os.fsync(file.fileno())
            durations.append(time.perf_counter() - began)
    return statistics.median(durations) * 1000


def machine(folder: Path) -> str:
    """Return the machine's size, load and disk as one line."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    cores = psutil.cpu_count() or 1
    return f"{cores} cores, load {load}, fsync p50 {fsync_ms(folder):.2f} ms in {folder}"


def busy_seconds() -> float:
    """Return the CPU seconds the whole machine has spent working since it started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq
