"""What a person sees while a test network runs: where each validator is, then the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from validator_node.terminal import Terminal
from validator_node.testnet.processes import Figures

REFRESH_PER_S = 2


class Screen:
    """Live progress on a terminal; plain lines where there is none."""

    def __init__(self) -> None:
        self.console = Terminal()
        self._live = Live(console=self.console, refresh_per_second=REFRESH_PER_S, transient=True)
        self._phase = ""

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text)

    def progress(self, phase: str, rows: Sequence[Figures | None], elapsed_s: float) -> None:
        """Show where every validator is."""
        if self.console.is_terminal:
            self._live.update(Group(f"{phase} · {elapsed_s:.0f} s", _progress_table(rows)))
        elif phase != self._phase or int(elapsed_s) % 10 == 0:
            self.say(f"{elapsed_s:5.0f} s  {phase}  {_one_line(rows)}")
        self._phase = phase


def _progress_table(rows: Sequence[Figures | None]) -> Table:
    table = Table()
    names = ("height", "view", "settled", "pending", "peers", "links", "epoch", "chain_block")
    for title in ("validator", *names):
        table.add_column(title.replace("_", " "), justify="right")
    for index, row in enumerate(rows):
        if row is None:
            table.add_row(str(index), *["-" for _ in names])
        else:
            lead = " (primary)" if row.get("primary") == index else ""
            table.add_row(f"{index}{lead}", *[f"{row.get(name, 0):.0f}" for name in names])
    return table


def _one_line(rows: Sequence[Figures | None]) -> str:
    heights = "/".join("-" if row is None else f"{row['height']:.0f}" for row in rows)
    views = "/".join("-" if row is None else f"{row['view']:.0f}" for row in rows)
    settled = max((row["settled"] for row in rows if row is not None), default=0)
    peers = min((row["peers"] for row in rows if row is not None), default=0)
    return f"height {heights}  view {views}  settled {settled:.0f}  peers {peers:.0f}"


def print_report(console: Terminal, report: dict[str, Any]) -> None:
    """Print the final tables."""
    miners = Table(title="Miners")
    for title in ("uid", "submitted", "finalised", "refused", "score", "weight"):
        miners.add_column(title, justify="right")
    for entry in report["miners"]:
        miners.add_row(*[str(entry[column.header]) for column in miners.columns])
    validators = Table(title="Validators")
    for title in ("index", "height", "chain hash", "state root", "RSS MB", "CPU s", "weights"):
        validators.add_column(title, justify="right")
    for entry in report["validators"]:
        vector = " ".join(f"{uid}:{weight}" for uid, weight in entry["weights"])
        validators.add_row(
            str(entry["index"]),
            str(entry["height"]),
            entry["chain_hash"][:12],
            entry["state_root"][:12],
            f"{entry['rss_mb']:.0f}",
            f"{entry['cpu_s']:.1f}",
            vector,
        )
    console.print(miners)
    console.print(validators)
    decision = report["decision_ms"]
    console.print(
        f"{report['evaluations_finalised']} evaluations finalised in {report['duration_s']:.0f} s "
        f"({report['evaluations_finalised'] / report['duration_s']:.1f} a second), "
        f"decision p50 {decision['p50']:.0f} ms, p99 {decision['p99']:.0f} ms"
    )
