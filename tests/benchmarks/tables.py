"""Small text tables, and the state of the machine they were measured on."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from protocol.identity import ConsensusKey, verify_consensus

FSYNC_SAMPLES = 100
VERIFY_SAMPLES = 500


def show(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print right-aligned columns under their names, the first one left-aligned."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    show(f"\n{title}")
    for number, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        show("  ".join(cells).rstrip())
        if number == 0:
            show("  ".join("-" * width for width in widths))


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


def verify_us() -> float:
    """Return the CPU time of one signature check, in microseconds: how fast a core is just now."""
    key = ConsensusKey(bytes(32))
    message = bytes(200)
    signature = key.sign(message)
    began = time.process_time()
    for _ in range(VERIFY_SAMPLES):
        verify_consensus(key.public_key, message, signature)
    return (time.process_time() - began) / VERIFY_SAMPLES * 1e6


def machine(folder: Path) -> str:
    """Return the machine's size, load, speed and disk as one line."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{cores()} cores, load {load}, ed25519 check {verify_us():.0f} us, "
        f"fsync p50 {fsync_ms(folder):.2f} ms in {folder}"
    )


def cores() -> int:
    """Return how many cores there are."""
    return psutil.cpu_count() or 1


def busy_seconds() -> float:
    """Return the CPU seconds the whole machine has spent working since it started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq
