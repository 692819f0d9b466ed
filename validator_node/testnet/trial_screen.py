"""What a person sees of a finished trial, and of a row of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from validator_node.terminal import Terminal


def print_trial(console: Terminal, report: dict[str, Any]) -> None:
    """Print a trial's nodes, what became of the submissions, and the violations."""
    table = Table(title=report["name"])
    for title in ("node", "role", "at end", "height", "chain hash", "RSS MB", "CPU s"):
        table.add_column(title, justify="right")
    for row in report["nodes"]:
        cells = (row["node"], row["role"], row["at_end"], row["height"], row["chain_hash"][:12])
        table.add_row(*map(str, cells), f"{row['rss_mb']:.0f}", f"{row['cpu_s']:.1f}")
    console.print(table)
    lines = [f"submissions: {_counts(report['submissions'])}"]
    lines += [
        f"cut off without a quorum: nodes {cut['side']} stayed at {cut['stayed_at']} or below "
        f"while the others reached {cut['others_reached']}"
        for cut in report["cut_off"]
    ]
    lines += [
        f"node {trend['node']} {trend['quantity']}: {trend['slope_per_h']:+.1f} an hour, "
        f"at most {trend['maximum']:.0f}"
        for trend in report.get("trends", [])
    ]
    lines += [f"VIOLATION {entry.get('line', entry['text'])}" for entry in report["violations"]]
    if report["violations"]:
        lines.append(f"logs: {report['folder']}; to replay: {report['replay']}")
    else:
        lines.append("every invariant held")
    for line in lines:
        console.print(line, soft_wrap=True)


def print_table(console: Terminal, reports: Sequence[dict[str, Any]]) -> None:
    """Print one line for each trial of a row."""
    table = Table(title="Trials")
    for title in ("trial", "fabric", "nodes", "events", "height", "finalised", "s", "result"):
        table.add_column(title, justify="right")
    for report in reports:
        broken = sorted({entry["invariant"] for entry in report["violations"]})
        table.add_row(
            report["name"],
            report["fabric"],
            f"{report['validators']}+{report['observers']}",
            _counts(Counter(report["events"])),
            str(max((row["height"] for row in report["nodes"]), default=0)),
            str(report["submissions"].get("finalised", 0)),
            f"{report['seconds']:.0f}",
            ", ".join(broken) or "held",
        )
    console.print(table)
    failed = [report for report in reports if report["violations"]]
    console.print(f"{len(reports) - len(failed)} of {len(reports)} trials held")
    for report in failed:
        console.print(f"replay {report['name']}: {report['replay']}", soft_wrap=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"
