"""What an evaluation costs: in process, through a worker, and against engines that trust the guest.

Three tables. The ways to run the same module on the same input, taken in turns, so that a busy
moment of the machine hits all of them; two workers against one; and how long the first evaluation
of a module takes. Medians, and beside them the fastest, which a busy machine changes least.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import trio

from challenges.artifacts import component_compiler
from challenges.compile_python import tool_problem
from runtime.pool import open_pool
from tests.benchmarks.evaluation_pools import print_starts, print_two_against_one, source
from tests.benchmarks.evaluation_subjects import SUBMISSION, Subject, components, subjects
from tests.benchmarks.evaluation_ways import (
    IN_LINE,
    V8,
    InProcess,
    Public,
    Raw,
    timed_in_line,
    timed_in_pool,
)
from tests.benchmarks.options import Options
from tests.benchmarks.tables import machine, print_table, ratio, show

TURNS = 6
SANDBOX, WORKER, LINE = "in process", "worker, one at a time", f"worker, {IN_LINE} asked for"
TARGETS_US = {SANDBOX: 100, LINE: 150}
"""For a submission of 1 KiB. What an evaluation costs through a worker shows when there is always
one to do; one at a time, most of the time goes to putting two processes to sleep and waking them.
"""
COLUMNS = (
    "one evaluation",
    "median us",
    "fastest us",
    "to in process",
    "fastest",
    "times",
    "target us",
)
Took = dict[str, list[int]]
Way = InProcess | Public | Raw | V8


def run(options: Options) -> None:
    """Measure and print the tables."""
    parent = options.folder or Path(tempfile.gettempdir())
    show(f"evaluation: {machine(parent)}")
    if V8.missing:
        show(V8.missing)
    if (problem := tool_problem()) is not None:
        show(f"python_coding is left out: {problem}")
    trio.run(print_ways, options.seconds)
    trio.run(print_two_against_one, options.seconds)
    trio.run(print_starts, parent)
    show(machine(parent))


async def print_ways(seconds: float) -> None:
    """Measure every subject in every way."""
    rows = []
    for subject in (*subjects(), *components()):
        took = await take_turns(subject, seconds)
        middle, best = statistics.median(took[SANDBOX]), min(took[SANDBOX])
        rows += [
            [
                f"{subject.name}: {name}",
                f"{statistics.median(values) / 1000:.1f}",
                f"{min(values) / 1000:.1f}",
                ratio(statistics.median(values), middle),
                ratio(min(values), best),
                str(len(values)),
                target(subject, name),
            ]
            for name, values in took.items()
        ]
    print_table("The same evaluation in several ways", COLUMNS, rows)


def target(subject: Subject, way: str) -> str:
    """Return what an evaluation is to take at most, in microseconds, where it has a target."""
    if subject.target_ms is not None and way == SANDBOX:
        return f"{subject.target_ms * 1000:.0f}"
    if len(subject.job.submission) == len(SUBMISSION) and way in TARGETS_US:
        return str(TARGETS_US[way])
    return ""


async def take_turns(subject: Subject, seconds: float) -> Took:
    """Return the durations of each way. Ends the benchmark if one gives another output."""
    ways: dict[str, Way] = {SANDBOX: InProcess(subject)}
    took: Took = {SANDBOX: [], WORKER: [], LINE: []}
    part = seconds / TURNS / 2
    try:
        if subject.elsewhere:
            ways |= {"wasmtime-py": Public(subject), "wasmtime, raw": Raw(subject)}
        if subject.elsewhere and not V8.missing:
            ways["Node's V8"] = V8(subject)
        given = source(subject)
        compiler = None if subject.artifact is None else component_compiler(given)
        async with open_pool(1, module_source=given, compiler=compiler) as pool:
            expected = (await pool.evaluate(subject.job)).output
            for name, way in ways.items():
                if way.answer() != expected:
                    raise SystemExit(f"{subject.name}: another output by {name}")
                way.measure(part)  # warms up, not counted
            for _ in range(TURNS):
                for name, way in ways.items():
                    took.setdefault(name, []).extend(way.measure(part))
                took[WORKER] += await timed_in_pool(part, pool, subject)
                took[LINE] += await timed_in_line(part, pool, subject)
    finally:
        for way in ways.values():
            way.close()
    return took
