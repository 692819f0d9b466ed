"""A soak: steady load for a long time, and whether anything grows in the nodes.

Every `SAMPLE_S` each node's resident memory, open descriptors, threads and trio tasks are noted.
At the end the slope over the second half of the time (least squares, per hour) and the maximum
are held against `BOUNDS`. A slope counts as growth only if it also adds up to more than `noise` in
the time that it was measured: over a few minutes one garbage collection makes any slope.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import trio

from validator_node.testnet.invariants import Violation
from validator_node.testnet.nodes import Nodes
from validator_node.testnet.processes import Figures

SAMPLE_S = 5.0
HOUR_S = 3600.0


@dataclass(frozen=True)
class Bound:
    """What one quantity may do."""

    slope_per_h: float
    maximum: float
    noise: float


BOUNDS: Mapping[str, Bound] = {
    "rss_mb": Bound(slope_per_h=40.0, maximum=500.0, noise=8.0),
    "descriptors": Bound(slope_per_h=10.0, maximum=400.0, noise=6.0),
    "threads": Bound(slope_per_h=4.0, maximum=64.0, noise=3.0),
    "tasks": Bound(slope_per_h=20.0, maximum=2000.0, noise=12.0),
}
"""Per node. Descriptors count the two ends of up to 16 peers, the database's files and the log."""


@dataclass(frozen=True)
class Trend:
    """What one quantity of one node did."""

    node: int
    quantity: str
    slope_per_h: float
    maximum: float
    span_s: float
    """The time over which the slope was measured."""

    @property
    def excess(self) -> str:
        """Say which bound it broke; empty if none."""
        bound = BOUNDS[self.quantity]
        if self.maximum > bound.maximum:
            return f"reached {self.maximum:g}, at most {bound.maximum:g} was expected"
        grown = self.slope_per_h * self.span_s / HOUR_S
        if self.slope_per_h > bound.slope_per_h and grown > bound.noise:
            return (
                f"grew by {self.slope_per_h:.1f} an hour over {self.span_s:.0f} s, at most "
                f"{bound.slope_per_h:g} was expected"
            )
        return ""


@dataclass
class Soak:
    """The samples of a run: (time in seconds, node, quantity, value)."""

    samples: list[tuple[float, int, str, float]] = field(default_factory=list)
    _last: float = float("-inf")

    def take(self, nodes: Nodes, rows: Sequence[Figures | None]) -> None:
        """Note what the running nodes use, unless that was done just now."""
        now = trio.current_time()
        if now < self._last + SAMPLE_S:
            return
        self._last = now
        for node, row in enumerate(rows):
            process = nodes.process(node)
            if process is None or row is None:
                continue
            try:
                values = {
                    "rss_mb": process.memory_info().rss / 1e6,
                    "descriptors": process.num_fds(),
                    "threads": process.num_threads(),
                }
            except psutil.NoSuchProcess:
                continue  # it ended between two looks
            if "tasks" in row:
                values["tasks"] = row["tasks"]
            self.samples += [(now, node, name, value) for name, value in values.items()]

    def trends(self) -> list[Trend]:
        """Return slope and maximum of every quantity of every node."""
        series: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for at, node, name, value in self.samples:
            series.setdefault((node, name), []).append((at, value))
        found = []
        for (node, name), points in sorted(series.items()):
            middle = (points[0][0] + points[-1][0]) / 2
            late = [point for point in points if point[0] >= middle]
            found.append(
                Trend(
                    node,
                    name,
                    slope(late) * HOUR_S,
                    max(value for _, value in points),
                    late[-1][0] - late[0][0],
                )
            )
        return found

    def violations(self) -> list[Violation]:
        """Return the bounds that were broken."""
        return [
            Violation("stays_flat", f"{trend.quantity} {trend.excess}", (trend.node,))
            for trend in self.trends()
            if trend.excess
        ]

    def write(self, path: Path) -> None:
        """Write the samples as CSV, times from the first one on."""
        start = self.samples[0][0] if self.samples else 0.0
        with path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["seconds", "node", "quantity", "value"])
            table.writerows([round(at - start, 1), *rest] for at, *rest in self.samples)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of (time, value) points, in value per time; 0 for one."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
