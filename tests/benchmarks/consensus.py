"""What a decision costs: n processes, real signatures, journal and database on the disk.

The same nodes run over plain TCP (`tcp_links`) and over libp2p, so that the difference is the
transport. The primary always has something to propose; each batch holds one statement. Latency is
from the proposal to the execution at the primary. `CPU limit` is the rate at which these processes
alone would use all cores up: on a busy machine the CPU columns are the ones to trust.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.benchmarks.consensus_node import Measured, Spec
from tests.benchmarks.options import Options
from tests.benchmarks.tables import busy_seconds, cores, machine, print_table, ratio, show
from tests.benchmarks.tcp_links import HOST
from validator_node.latency import percentile

WARMUP_S = 1.5
DEADLINE_S = 90.0
COLUMNS = (
    "setting",
    "decisions/s",
    "ratio",
    "p50 ms",
    "p99 ms",
    "ratio",
    "CPU ms/node",
    "primary",
    "ratio",
    "CPU limit/s",
    "KiB",
    "messages",
    "frames",
    "others' cores",
)


@dataclass(frozen=True)
class Setting:
    """One measurement."""

    nodes: int
    window: int
    transport: str

    def __str__(self) -> str:
        return f"n={self.nodes} W={self.window} {self.transport}"


@dataclass(frozen=True)
class Figures:
    """The result of one measurement; sums are per decision over all nodes."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Per node."""
    primary_cpu_ms: float
    kib: float
    messages: float
    frames: float
    others: float
    """Cores that the rest of the machine kept busy."""

    def row(self, setting: Setting, baseline: Figures) -> list[str]:
        return [
            str(setting),
            f"{self.rate:.0f}",
            ratio(self.rate, baseline.rate),
            f"{self.p50_ms:.1f}",
            f"{self.p99_ms:.1f}",
            ratio(self.p50_ms, baseline.p50_ms),
            f"{self.cpu_ms:.2f}",
            f"{self.primary_cpu_ms:.2f}",
            ratio(self.cpu_ms, baseline.cpu_ms),
            f"{cores() * 1000 / (setting.nodes * self.cpu_ms):.0f}",
            f"{self.kib:.1f}",
            f"{self.messages:.1f}",
            f"{self.frames:.1f}",
            f"{self.others:.1f}",
        ]


def run(options: Options) -> None:
    """Measure every combination and print the table."""
    parent = options.folder or Path(tempfile.gettempdir())
    show(f"consensus: {machine(parent)}")
    rows = []
    for nodes in options.nodes:
        for window in options.windows:
            baseline: Figures | None = None
            for transport in options.transports:
                setting = Setting(nodes, window, transport)
                figures, profiles = measure(setting, options, parent)
                baseline = baseline or figures
                rows.append(figures.row(setting, baseline))
                for index, profile in profiles.items():
                    print_profile(f"{setting}: node {index}", profile, figures)
    title = f"One decision (ratios: against {options.transports[0]}; sums over all nodes)"
    print_table(title, COLUMNS, rows)
    show(machine(parent))


def measure(setting: Setting, options: Options, parent: Path) -> tuple[Figures, dict[int, dict]]:
    """Run the processes of one setting; return its figures and any profiles by node."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-consensus-", dir=parent))
    children: list[subprocess.Popen[str]] = []
    guard = threading.Timer(DEADLINE_S + options.seconds, lambda: [c.kill() for c in children])
    guard.start()
    try:
        children += start(setting, options, folder)
        for child in children:
            expect(child, folder, "ready")
        for child in children:
            say(child)
        busy = busy_seconds()
        measured = [msgspec.json.decode(expect(child, folder), type=Measured) for child in children]
        busy = busy_seconds() - busy
        for child in children:
            child.stdin.close()
        for child in children:
            child.wait()
    finally:
        guard.cancel()
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
    profiles = {i: one.profile for i, one in enumerate(measured) if one.profile}
    return summarise(measured, busy), profiles


def start(setting: Setting, options: Options, folder: Path) -> list[subprocess.Popen[str]]:
    """Start the processes; with a profile the primary and one other node are sampled."""
    ports = free_ports(setting.nodes)
    children = []
    for index in range(setting.nodes):
        home = folder / f"node-{index}"
        home.mkdir()
        spec = Spec(
            index=index,
            window=setting.window,
            transport=setting.transport,
            ports=ports,
            folder=str(home),
            warmup_s=WARMUP_S,
            seconds=options.seconds,
            profile=options.profile and index < 2,
        )
        with (folder / f"node-{index}.log").open("w") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.consensus_node", encoded(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        children.append(child)
    return children


def encoded(spec: Spec) -> str:
    return msgspec.json.encode(spec).decode()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on just now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def say(child: subprocess.Popen[str]) -> None:
    child.stdin.write("go\n")
    child.stdin.flush()


def expect(child: subprocess.Popen[str], folder: Path, wanted: str = "") -> str:
    """Return the child's next line; end the benchmark if it is not what was expected."""
    line = child.stdout.readline().strip()
    if not line or (wanted and line != wanted):
        logs = "\n".join(log.read_text()[-2000:] for log in sorted(folder.glob("*.log")))
        raise SystemExit(f"a node said {line!r} instead of {wanted or 'its figures'!r}\n{logs}")
    return line


def summarise(measured: list[Measured], busy: float) -> Figures:
    """Return the figures of one measurement."""
    primary = measured[0]
    spans = [one.after.at_s - one.before.at_s for one in measured]
    decisions = [one.after.decisions - one.before.decisions for one in measured]
    cpu = [
        (one.after.cpu_s - one.before.cpu_s) * 1000 / max(1, count)
        for one, count in zip(measured, decisions, strict=True)
    ]
    if not all(decisions):
        raise SystemExit(
            f"consensus: nothing was decided in {spans[0]:.0f} s at node "
            f"{decisions.index(0)}: that is broken, not slow (decisions by node: {decisions})"
        )
    total = statistics.mean(decisions)

    def each(name: str) -> float:
        sums = [getattr(one.after, name) - getattr(one.before, name) for one in measured]
        return sum(sums) / total

    own = sum(one.after.cpu_s - one.before.cpu_s for one in measured)
    return Figures(
        rate=decisions[0] / spans[0],
        p50_ms=percentile(primary.decision_ms, 50),
        p99_ms=percentile(primary.decision_ms, 99),
        cpu_ms=statistics.mean(cpu),
        primary_cpu_ms=cpu[0],
        kib=each("frame_bytes") / 1024,
        messages=each("messages"),
        frames=each("frames"),
        others=max(0.0, (busy / (WARMUP_S + spans[0])) - own / spans[0]),
    )


def print_profile(title: str, profile: dict, figures: Figures) -> None:
    """Print where the CPU time of one node went, in microseconds of a decision."""
    for kind, entries in profile.items():
        rows = [
            [name, f"{share:.1%}", f"{share * figures.cpu_ms * 1000:.0f}"]
            for name, share in entries
        ]
        print_table(f"{title}, by {kind}", ("where", "share", "us a decision"), rows)
