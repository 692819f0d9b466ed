"""What a gossip message costs: stock py-libp2p against our corrections, in one run.

n processes on the loopback interface, all connected; node 0 publishes. Latency is from publishing
to each node's delivery with one message under way; the rate is what all nodes keep up with, with a
window of messages under way; CPU is that of all nodes together for one message of that second part.

Stock means `libp2p.new_host` and `GossipSub` as they come, but for what would not work at all: a
heartbeat of 1 s (stock: 120 s, in which no mesh forms) and no spam protection (it stops forwarding
above 10 messages a second). Protocols and degrees, which have no defaults, are ours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.benchmarks.consensus import expect, free_ports
from tests.benchmarks.gossip_node import COUNT, VARIANTS, Marked, Published, Spec
from tests.benchmarks.options import Options
from tests.benchmarks.tables import busy_seconds, machine, print_table, ratio, show
from validator_node.latency import percentile

SIZES = (256, 4_096, 262_144 - 1_024)
"""Bytes of payload; the largest leaves room for the envelope below our limit of 256 KiB."""
WINDOWS = (8, 8, 4)
WARMUP_S = 0.5
LATENCY_SHARE = 0.5
"""Seconds with one message under way, as a share of those with many."""
DEADLINE_S = 100.0
COLUMNS = (
    "setting",
    "messages/s",
    "ratio",
    "p50 ms",
    "p99 ms",
    "ratio",
    "CPU ms/message",
    "ratio",
    "lost",
    "others' cores",
)


@dataclass(frozen=True)
class Figures:
    """The result of one measurement."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Per message, over all nodes."""
    lost: int
    others: float
    """Cores that the rest of the machine kept busy."""

    def row(self, setting: str, baseline: Figures) -> list[str]:
        return [
            setting,
            f"{self.rate:.1f}",
            ratio(self.rate, baseline.rate),
            f"{self.p50_ms:.1f}",
            f"{self.p99_ms:.1f}",
            ratio(self.p50_ms, baseline.p50_ms),
            f"{self.cpu_ms:.1f}",
            ratio(self.cpu_ms, baseline.cpu_ms),
            str(self.lost),
            f"{self.others:.1f}",
        ]


def run(options: Options) -> None:
    """Measure stock and ours for every number of nodes and size, and print the table."""
    parent = options.folder or Path(tempfile.gettempdir())
    show(f"gossip: {machine(parent)}")
    rows = []
    for nodes in options.nodes:
        found = {variant: measure(nodes, variant, options, parent) for variant in VARIANTS}
        for index, size in enumerate(SIZES):
            for variant, figures in found.items():
                setting = f"n={nodes} {label(size)} {variant}"
                rows.append(figures[index].row(setting, found["stock"][index]))
    print_table("One gossip message (ratios: against stock)", COLUMNS, rows)
    show(
        "stock: as py-libp2p comes, with a heartbeat of 1 s and without its spam protection; "
        "ours: with the default budgets"
    )
    show(machine(parent))


def label(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{round(size / 1024)} KiB"


def measure(nodes: int, variant: str, options: Options, parent: Path) -> list[Figures]:
    """Run the processes of one variant; return the figures for each size."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-gossip-", dir=parent))
    children: list[subprocess.Popen[str]] = []
    deadline_s = DEADLINE_S + len(SIZES) * 2 * options.seconds
    guard = threading.Timer(deadline_s, lambda: [child.kill() for child in children])
    guard.start()
    try:
        children += start(nodes, variant, folder)
        for child in children:
            expect(child, folder, "listening")
        for child in children:
            say(child, "go")
        for child in children:
            expect(child, folder, "ready")
        return [
            measure_size(children, folder, size, window, options.seconds)
            for size, window in zip(SIZES, WINDOWS, strict=True)
        ]
    finally:
        guard.cancel()
        for child in children:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def start(nodes: int, variant: str, folder: Path) -> list[subprocess.Popen[str]]:
    ports = free_ports(nodes)
    progress = folder / "progress"
    progress.write_bytes(bytes(nodes * COUNT.size))
    children = []
    for index in range(nodes):
        spec = Spec(index=index, variant=variant, ports=ports, progress=str(progress))
        with (folder / f"node-{index}.log").open("w") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.benchmarks.gossip_node",
                    msgspec.json.encode(spec).decode(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        children.append(child)
    return children


def say(child: subprocess.Popen[str], words: str) -> None:
    child.stdin.write(words + "\n")
    child.stdin.flush()


def publish(
    children: list[subprocess.Popen[str]], folder: Path, size: int, window: int, seconds: float
) -> Published:
    say(children[0], f"publish {size} {window} {seconds}")
    return msgspec.json.decode(expect(children[0], folder), type=Published)


def mark(children: list[subprocess.Popen[str]], folder: Path) -> list[Marked]:
    for child in children:
        say(child, "mark")
    return [msgspec.json.decode(expect(child, folder), type=Marked) for child in children]


def measure_size(
    children: list[subprocess.Popen[str]], folder: Path, size: int, window: int, seconds: float
) -> Figures:
    """Warm up, measure the latency, then rate and CPU."""
    publish(children, folder, size, 1, WARMUP_S)
    mark(children, folder)
    alone = publish(children, folder, size, 1, seconds * LATENCY_SHARE)
    before, busy = mark(children, folder), busy_seconds()
    latencies = [value for marked in before for value in marked.latencies_ms]
    many = publish(children, folder, size, window, seconds)
    after, busy = mark(children, folder), busy_seconds() - busy
    if not latencies or many.sent <= many.lost:
        raise SystemExit(
            f"gossip: no message of {size} B reached everybody ({many.sent} sent, {many.lost} "
            f"lost): that is broken, not slow"
        )
    cpu_s = sum(b.cpu_s - a.cpu_s for a, b in zip(before, after, strict=True))
    return Figures(
        rate=(many.sent - many.lost) / many.seconds,
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        cpu_ms=cpu_s * 1000 / max(1, many.sent),
        lost=alone.lost + many.lost,
        others=max(0.0, (busy - cpu_s) / many.seconds),
    )
