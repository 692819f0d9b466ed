"""How long a validator that lost its whole data folder takes to come back: snapshot against log.

Four real validators decide `BATCHES` batches under load; then the last one is killed with SIGKILL
and its data folder removed, journal included, twice: it comes back by snapshot, and by reading the
whole log. The others go on deciding. Time counts from the start of the process, imports included.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import trio
from rich.console import Console
from rich.table import Table

from tests.benchmarks.options import Options
from validator_node.testnet import processes
from validator_node.testnet.layout import Layout, TestnetOptions, ValidatorSite, prepare
from validator_node.testnet.processes import Child, Figures

BATCHES = 2_000
SNAPSHOT_EVERY = 500
VICTIM = 3
LOAD_DEADLINE_S = 900
REJOIN_DEADLINE_S = 300
POLL_S = 0.25
CLOSE = 3
"""Slots behind the others at which a node has caught up: they go on deciding."""


class Rejoin:
    """One network and what happens to its last validator."""

    def __init__(self, layout: Layout, client: httpx.AsyncClient) -> None:
        self._layout = layout
        self._client = client
        self._children: list[Child] = []
        self._miners: list[Child] = []

    async def _figures(self, site: ValidatorSite) -> Figures:
        return await processes.figures(self._client, site) or {}

    async def _until(self, holds: Callable[[list[Figures]], bool], deadline_s: float) -> None:
        with trio.fail_after(deadline_s):
            while True:
                rows = [await self._figures(site) for site in self._layout.validators]
                if holds(rows):
                    return
                await trio.sleep(POLL_S)

    async def load(self) -> None:
        """Start everything and decide `BATCHES` batches."""
        for site in self._layout.validators:
            self._children.append(await processes.start_validator(site))
        await self._until(lambda rows: all(r.get("links", 0) >= 3 for r in rows), LOAD_DEADLINE_S)
        for miner in self._layout.miners:
            self._miners.append(await processes.start_miner(miner))
        await self._until(
            lambda rows: all(r.get("height", 0) >= BATCHES for r in rows), LOAD_DEADLINE_S
        )

    async def rejoin(self, *, full_log: bool) -> dict[str, float]:
        """Kill the victim, remove its data, and measure its way back."""
        site = self._layout.validators[VICTIM]
        await processes.kill(self._children[VICTIM])
        shutil.rmtree(site.folder / "state")
        with site.config.open("a") as settings:
            settings.write(f"full_log = {json.dumps(full_log)}\n")
        site.log.unlink()
        began = trio.current_time()
        self._children[VICTIM] = await processes.start_validator(site)

        def caught_up(rows: list[Figures]) -> bool:
            others = [r.get("height", 0) for i, r in enumerate(rows) if i != VICTIM]
            mine = rows[VICTIM]
            return mine.get("height", 0) >= min(others) - CLOSE > 0

        await self._until(caught_up, REJOIN_DEADLINE_S)
        elapsed_s = trio.current_time() - began
        row = await self._figures(site)
        lines = [json.loads(line) for line in site.log.read_text().splitlines()]
        prepared = [line for line in lines if line.get("event") == "snapshot prepared"]
        starts = [line for line in lines if line.get("event") == "node starts"]
        return {
            "seconds": elapsed_s,
            "height": row["height"],
            "began_at": starts[-1]["height"],
            "snapshot_bytes": sum(line["bytes"] for line in prepared),
            "snapshot_s": sum(line["seconds"] for line in prepared),
            "log_bytes": row.get("sync:log_bytes", 0),
            "slots_read": row.get("sync:slots_read", 0),
        }

    async def stop(self) -> None:
        """End every process."""
        async with trio.open_nursery() as nursery:
            for child in [*self._miners, *self._children]:
                nursery.start_soon(processes.stop, child)


async def _measure(layout: Layout) -> dict[str, dict[str, float]]:
    async with httpx.AsyncClient() as client:
        network = Rejoin(layout, client)
        try:
            await network.load()
            log = await network.rejoin(full_log=True)
            # The setting is appended, and TOML refuses a name twice: begin anew.
            site = layout.validators[VICTIM]
            text = site.config.read_text().replace("full_log = true\n", "")
            site.config.write_text(text)
            return {"log": log, "snapshot": await network.rejoin(full_log=False)}
        finally:
            with trio.CancelScope(shield=True):
                await network.stop()


def run(options: Options) -> None:
    """Measure both ways in one network and print them with their ratio."""
    folder = Path(tempfile.mkdtemp(prefix="rejoin-", dir=options.folder))
    layout = prepare(TestnetOptions(state_dir=folder / "net", interval_s=0.25))
    for site in layout.validators:
        with site.config.open("a") as settings:
            settings.write(f"snapshot_every_slots = {SNAPSHOT_EVERY}\n")
    rows = trio.run(_measure, layout)
    table = Table(title=f"an empty validator rejoins after {BATCHES} batches")
    for name in ("", "seconds", "loading s", "MB", "slots read", "from slot", "to slot"):
        table.add_column(name, justify="right" if name else "left")
    for name, row in rows.items():
        size = row["snapshot_bytes"] + row["log_bytes"]
        table.add_row(
            name,
            f"{row['seconds']:.1f}",
            f"{row['snapshot_s']:.2f}",
            f"{size / 1e6:.2f}",
            f"{row['slots_read']:.0f}",
            f"{row['began_at']:.0f}",
            f"{row['height']:.0f}",
        )
    ratio = rows["log"]["seconds"] / rows["snapshot"]["seconds"]
    Console().print(table, f"log / snapshot: {ratio:.1f} in time")
    shutil.rmtree(folder)
