"""Worker pools measured: two workers against one, and the first evaluation of a module.

On a busy machine the clock says little of two workers; what CPU time an evaluation costs the node
and its worker says what an idle machine would make of it: a node of one thread hands out jobs, the
workers share the other cores' time with it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import trio

from protocol.codec import sha256
from runtime.artifact_cache import ArtifactCache
from runtime.compiler import Compiler
from runtime.engine import engine_id
from runtime.pool import WorkerPool, open_pool
from tests.benchmarks.evaluation_subjects import Subject, checksum, example
from tests.benchmarks.evaluation_ways import InProcess
from tests.benchmarks.tables import busy_seconds, cores, print_table, ratio

TURNS = 4
DURATIONS_MS = (0.0, 2.0, 20.0)
CALIBRATION_ROUNDS = 1_000
IN_HAND = 3
"""Jobs waiting or running for each worker."""
TARGET = "1.80x"
STARTS = 5
CACHE_KEY = bytes(32)
FIGURES = (
    "one us",
    "two us",
    "two/one",
    "target",
    "node CPU us",
    "worker CPU us",
    "two/one by CPU",
    "others' cores",
)


def source(*found: Subject) -> Callable[[bytes], bytes | None]:
    """Return what gives a pool these subjects' modules and blobs."""
    bodies = [body for subject in found for body in (subject.module, *subject.blobs)]
    return {sha256(body): body for body in bodies}.get


@dataclass(frozen=True)
class Load:
    """A pool kept busy for a while."""

    per_s: float
    """Evaluations a second."""
    node_us: float
    """CPU time of this process, for each evaluation."""
    worker_us: float
    """CPU time of the workers, for each evaluation."""
    others: float
    """Cores that the rest of the machine used."""


def by_cpu(node_us: float, worker_us: float) -> float:
    """Return what two workers would be to one if two cores had nothing else to do."""
    one = max(node_us, worker_us)
    two = max(node_us, (node_us + worker_us) / 2)
    return one / two


async def print_two_against_one(seconds: float) -> None:
    """Measure evaluations of several lengths with one worker and with two, in turns."""
    rows = []
    for duration_ms in DURATIONS_MS:
        subject = lasting(duration_ms)
        given = source(subject)
        one, two = [], []
        async with (
            open_pool(1, module_source=given) as single,
            open_pool(2, module_source=given) as double,
        ):
            await keep_busy(single, subject, 1, 0.1)
            await keep_busy(double, subject, 2, 0.1)
            for _ in range(TURNS):
                one.append(await keep_busy(single, subject, 1, seconds / TURNS))
                two.append(await keep_busy(double, subject, 2, seconds / TURNS))
        rates = [statistics.median(load.per_s for load in loads) for loads in (one, two)]
        node_us = statistics.median(load.node_us for load in two)
        worker_us = statistics.median(load.worker_us for load in two)
        rows.append(
            [
                f"{duration_ms:g} ms" if duration_ms else "tiny",
                *(f"{1e6 / rate:.0f}" for rate in rates),
                ratio(rates[1], rates[0]),
                TARGET if duration_ms else "",
                f"{node_us:.0f}",
                f"{worker_us:.0f}",
                ratio(by_cpu(node_us, worker_us), 1),
                f"{statistics.median(load.others for load in two):.2f}",
            ]
        )
    title = f"Two workers against one, {cores()} cores (us: of the clock, for each evaluation)"
    print_table(title, ("each lasts", *FIGURES), rows)


def lasting(duration_ms: float) -> Subject:
    """Return a subject whose evaluation takes about so long here; 0 for the smallest."""
    if not duration_ms:
        return checksum(1)
    trial = InProcess(checksum(CALIBRATION_ROUNDS))
    try:
        each_ms = min(trial.measure(0.2)) / 1e6 / CALIBRATION_ROUNDS
    finally:
        trial.close()
    return checksum(round(duration_ms / each_ms))


async def keep_busy(pool: WorkerPool, subject: Subject, workers: int, seconds: float) -> Load:
    """Evaluate with `IN_HAND` jobs a worker for a while."""
    done = 0
    began, busy, (node, children) = time.perf_counter(), busy_seconds(), cpu_seconds()
    end = began + seconds

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await pool.evaluate(subject.job)
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(IN_HAND * workers):
            nursery.start_soon(client)
    span = time.perf_counter() - began
    node, children = (
        after - then for after, then in zip(cpu_seconds(), (node, children), strict=True)
    )
    others = max(0.0, busy_seconds() - busy - node - children)
    return Load(done / span, node / done * 1e6, children / done * 1e6, others / span)


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU time of this process, and of its children that live."""
    mine = psutil.Process(os.getpid())
    return _spent(mine), sum(map(_spent, mine.children(recursive=True)))


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def print_starts(parent: Path) -> None:
    """Measure a module's first evaluation: compiled, loaded from the cache, and the next one."""
    columns = ("first evaluation, ms", "cold", "cached", "next", "worker's start", "module KiB")
    rows = []
    for subject in (checksum(1), example("series_forecast"), example("text_compression")):
        found = [await starts(subject, parent) for _ in range(STARTS)]
        middles = [statistics.median(values) for values in zip(*found, strict=True)]
        figures = [f"{value:.2f}" for value in middles]
        rows.append([subject.name, *figures, f"{len(subject.module) / 1024:.1f}"])
    print_table("Cold (a child compiles), cached (artifact on disk), and afterwards", columns, rows)


async def starts(subject: Subject, parent: Path) -> tuple[float, float, float, float]:
    """Return milliseconds: cold, cached, the evaluation after that, and a worker's start."""
    awake = checksum(2)
    given = source(subject, awake)
    with tempfile.TemporaryDirectory(dir=parent) as folder:

        def compiler() -> Compiler:
            return Compiler(
                ArtifactCache(Path(folder) / "artifacts", CACHE_KEY, engine_id()),
                engine_id(),
                given,
            )

        async with open_pool(1, module_source=given, compiler=compiler()) as pool:
            await pool.evaluate(awake.job)
            cold = await _once(pool, subject)
        began = time.perf_counter()
        async with open_pool(1, module_source=given, compiler=compiler()) as pool:
            await pool.evaluate(awake.job)
            start = (time.perf_counter() - began) * 1000
            cached = await _once(pool, subject)
            return cold, cached, await _once(pool, subject), start


async def _once(pool: WorkerPool, subject: Subject) -> float:
    began = time.perf_counter()
    await pool.evaluate(subject.job)
    return (time.perf_counter() - began) * 1000
