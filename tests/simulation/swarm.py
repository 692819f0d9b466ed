"""Many seeds on all cores, and the distribution of what they came to."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.network import Network, Outcome
from tests.simulation.plan import draw

CHUNK, BLOCK = 10, 1000


def run_seed(seed: int) -> Outcome:
    return Network(draw(seed)).run()


def run_seeds(seeds: range, jobs: int, is_over=None) -> Iterator[Outcome]:
    """Yield the outcome of each seed, in order, until `is_over` says so."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for first in range(seeds.start, seeds.stop, BLOCK):
            block = range(first, min(first + BLOCK, seeds.stop))
            for outcome in pool.imap(run_seed, block, chunksize=CHUNK):
                yield outcome
                if is_over is not None and is_over():
                    return


@dataclass
class Distribution:
    """What a swarm of runs did."""

    runs: int = 0
    slots: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    views: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    evidence: int = 0
    faults: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.slots.append(outcome.slots)
        self.messages.append(outcome.messages)
        self.views.append(outcome.views)
        self.epochs.append(outcome.epochs)
        self.evidence += outcome.evidence > 0
        self.faults.update(outcome.faults)
        self.refused.update(outcome.refused)
        if outcome.rule:
            self.failed.append(outcome)

    @property
    def changed_view(self) -> int:
        return sum(views > 0 for views in self.views)

    @property
    def crossed_epoch(self) -> int:
        return sum(epochs > 0 for epochs in self.epochs)

    def show(self) -> str:
        spent = time.monotonic() - self.began
        lines = [
            (f"{self.runs} networks, {len(self.failed)} failed, {spent:.0f} s "
            f"({1000 * spent / max(1, self.runs):.0f} ms each)"),
            *(
                f"  {name:<9} {spread(values)}"
                for name, values in (
                    ("slots", self.slots), ("messages", self.messages),
                    ("views", self.views), ("epochs", self.epochs),
                )
            ),
            (f"  {self.changed_view} changed view, {self.crossed_epoch} crossed an epoch, "
            f"{self.evidence} found evidence"),
            "  faults    " + show_counts(self.faults),
            "  refused   " + show_counts(self.refused),
        ]  # fmt: skip
        return "\n".join(lines)


def spread(values: list[int]) -> str:
    ordered = sorted(values) or [0]
    at = [ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (0, 10, 50, 90, 100)]
    low, tenth, half, ninth, top = at
    return f"min {low} p10 {tenth} p50 {half} p90 {ninth} max {top} sum {sum(values)}"


def show_counts(counts: Counter) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
