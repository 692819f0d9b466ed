"""Damaged modules by the thousand: `python -m tests.fuzz.modules --mutants 100000 --seed 1`.

One process judges them (`tests.fuzz.modules_judge`). When it dies or hangs, the mutant in hand is
the finding, and another process goes on behind it. Findings are written to `build/fuzz/modules/`;
`--replay FILE` judges one again. At the end stand the refusals by rule, the outcome classes, and
what memory did; the digest of two runs of one seed must be the same. `--kind components` does it to
components (`tests.fuzz.modules_components`).
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import selectors
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.fuzz import modules_components as components
from tests.fuzz.modules_judge import FindingError, Judge, Seed, Tally, mutant, seeds

FOLDER = Path("build") / "fuzz" / "modules"
BLOCK = 250
"""Mutants between two reports of the judging process."""
COMPILED_TWICE = 8
"""One mutant of so many is compiled a second time; all are evaluated twice."""
SILENT_S = 600.0
"""A judging process that says nothing for longer hangs."""
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
WARM_UP = 0.2
"""Part of the run left out of the slope of memory: caches fill."""


@dataclass(frozen=True)
class Kind:
    """What is damaged, and who judges it."""

    name: str
    seeds: Callable[[], tuple[Seed, ...]]
    mutant: Callable[[int, int], tuple[Seed, bytes]]
    judge: Callable[[], Judge]


MODULES = Kind("modules", seeds, mutant, Judge)
COMPONENTS = Kind("components", components.seeds, components.mutant, components.ComponentJudge)
KINDS = {kind.name: kind for kind in (MODULES, COMPONENTS)}


class Report(msgspec.Struct, frozen=True):
    """One block, as the judging process tells it."""

    start: int
    mutants: int
    refused: dict[str, int]
    classes: dict[str, int]
    slowest_s: float
    slowest: int
    digest: bytes
    rss_kib: int
    findings: dict[int, str]
    """What was wrong, by number of the mutant."""


def resident_kib() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


def judge_block(
    judge: Judge,
    seed: int,
    numbers: range,
    skip: set[int],
    here: mmap.mmap,
    kind: Kind = MODULES,
) -> Report:
    """Judge some mutants; before each its number is left in `here`, for whoever finds us dead."""
    tally = Tally()
    findings: dict[int, str] = {}
    for number in numbers:
        if number in skip:
            continue
        here[:8] = number.to_bytes(8, "big")
        origin, module = kind.mutant(seed, number)
        try:
            twice = number % COMPILED_TWICE == 0
            tally.add(number, judge.judge(origin, module, twice=twice))
        except FindingError as finding:
            findings[number] = str(finding)
    return Report(
        start=numbers.start,
        mutants=tally.mutants,
        refused=dict(tally.refused),
        classes=dict(tally.classes),
        slowest_s=tally.slowest_s,
        slowest=tally.slowest,
        digest=tally.digest,
        rss_kib=resident_kib(),
        findings=findings,
    )


@contextlib.contextmanager
def shared_place(path: Path) -> Iterator[mmap.mmap]:
    """Map eight bytes of a file."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as here:
        yield here


def serve(kind: Kind, seed: int, start: int, end: int, skip: set[int], place: Path) -> None:
    """Judge a range of mutants, one report a block on stdout: the judging process."""
    with kind.judge() as judge, shared_place(place) as here:
        for first in range(start, end, BLOCK):
            numbers = range(first, min(first + BLOCK, end))
            report = judge_block(judge, seed, numbers, skip, here, kind)
            sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
            sys.stdout.buffer.flush()


def reports(
    seed: int,
    mutants: int,
    program: Sequence[str] = ("-m", "tests.fuzz.modules"),
    kind: Kind = MODULES,
) -> Iterator[Report]:
    """Yield the blocks in order; a judging process that ends early is replaced."""
    skip: dict[int, str] = {}
    start = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "here"
        place.write_bytes(bytes(8))
        while start < mutants:
            words = ["--seed", str(seed), "--from", str(start), "--mutants", str(mutants)]
            words += ["--kind", kind.name, "--place", str(place), "--skip", *map(str, skip)]
            # unbuffered: what has been read ahead would be invisible to the selector
            with subprocess.Popen(
                [sys.executable, *program, *words], stdout=subprocess.PIPE, bufsize=0
            ) as process:
                for report in _read(process):
                    start = report.start + BLOCK
                    lost = {n: why for n, why in skip.items() if report.start <= n < start}
                    yield msgspec.structs.replace(report, findings=report.findings | lost)
            if start < mutants:
                found = int.from_bytes(place.read_bytes(), "big")
                if found in skip or found < start:
                    raise SystemExit(f"the judging process ends with {process.returncode} at once")
                skip[found] = f"the process ended with {process.returncode}"


def _read(process: subprocess.Popen[bytes]) -> Iterator[Report]:
    """Yield what a judging process says, and kill it when it falls silent."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(SILENT_S):
                process.kill()
                return
            line = process.stdout.readline()
            if not line:
                return
            yield msgspec.json.decode(line, type=Report)


def slope_kib(resident: list[int]) -> float:
    """Return the least-squares growth of memory, in KiB per 1,000 mutants, behind the warm-up."""
    values = resident[int(len(resident) * WARM_UP) :]
    middle = (len(values) - 1) / 2
    mean = sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in range(len(values)))
    if not spread:
        return 0.0
    each = sum((at - middle) * (value - mean) for at, value in enumerate(values)) / spread
    return each * 1_000 / BLOCK


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def keep(seed: int, number: int, why: str, kind: Kind) -> None:
    """Write a finding down."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{seed}-{number}.wasm"
    origin, module = kind.mutant(seed, number)
    path.write_bytes(module)
    show(f"FINDING mutant {number} of {origin.name}: {why}; see {path}")


def run(seed: int, mutants: int, kind: Kind = MODULES) -> int:
    """Judge them all and print the figures; the exit status is 1 if anything was found."""
    refused: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    resident: list[int] = []
    slowest: tuple[float, int] = (0.0, -1)
    findings, judged, digest = 0, 0, 0
    for report in reports(seed, mutants, kind=kind):
        refused.update(report.refused)
        classes.update(report.classes)
        resident.append(report.rss_kib)
        slowest = max(slowest, (report.slowest_s, report.slowest))
        judged += report.mutants
        digest ^= int.from_bytes(report.digest, "big")
        for number, why in report.findings.items():
            keep(seed, number, why, kind)
            findings += 1
        if len(resident) % 20 == 0:
            show(f"{judged} judged, {classes.total()} admitted, {report.rss_kib} KiB")
    show(f"\nseed {seed}: {judged} mutants of {', '.join(origin.name for origin in kind.seeds())}")
    show(f"refused {refused.total()}: {_listed(refused)}")
    show(f"admitted {classes.total()}: {_listed(classes)}")
    show(f"findings {findings}; slowest mutant {slowest[1]}, {slowest[0]:.2f} CPU-s for both runs")
    show(
        f"memory KiB: first {resident[0]}, last {resident[-1]}, largest {max(resident)}, "
        f"slope {slope_kib(resident):.1f} per 1,000 mutants"
    )
    show(f"digest {digest.to_bytes(32, 'big').hex()}")
    return int(findings > 0)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.modules", description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=sorted(KINDS), default=MODULES.name)
    parser.add_argument("--replay", type=Path, help="judge one file as a mutant of each module")
    parser.add_argument("--from", type=int, default=0, dest="start", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, nargs="*", default=[], help=argparse.SUPPRESS)
    words = parser.parse_args()
    kind = KINDS[words.kind]
    if words.place is not None:
        serve(kind, words.seed, words.start, words.mutants, set(words.skip), words.place)
        return 0
    if words.replay is not None:
        with kind.judge() as judge:
            for origin in kind.seeds():
                end = judge.judge(origin, words.replay.read_bytes())
                show(f"as {origin.name}: {end.rule or end.outcome.outcome_class}")
        return 0
    return run(words.seed, words.mutants, kind)


if __name__ == "__main__":
    sys.exit(main())
