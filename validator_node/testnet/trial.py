"""A trial: a network under the events of a manifest, and whether the invariants held.

Phases: start, load (while the events happen), recover, drain, ask, stop, check. A violation found
on the way is noted; one that makes going on pointless ends the phases, and the files are checked
all the same. Every phase has a deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import trio

from validator_node.errors import TestnetError
from validator_node.testnet import manifest as m
from validator_node.testnet import processes
from validator_node.testnet.api import Api
from validator_node.testnet.fabric import Fabric
from validator_node.testnet.invariants import CutWatch, Fate, Violation
from validator_node.testnet.layout import Layout
from validator_node.testnet.manifest import Manifest
from validator_node.testnet.nodes import Nodes
from validator_node.testnet.processes import Child, Figures
from validator_node.testnet.screen import Screen
from validator_node.testnet.timeline import Step, World, steps_of
from validator_node.testnet.trial_files import published

START_DEADLINE_S = 240.0
RECOVER_DEADLINE_S = 180.0
DRAIN_DEADLINE_S = 180.0
POLL_S = 1.0
STATUS_S = 5.0
GRACE_S = 5.0
NEAR_SLOTS = 3
"""Nodes so close to the highest one have caught up, as long as the load goes on."""
LOAD = "load"
"""The phase in which the miners submit."""
QUIET = ("statements_waiting", "submissions_waiting", "evaluations_waiting", "pending")

Rows = list[Figures | None]
Condition = Callable[[Rows], bool]


class _GiveUpError(Exception):
    """Going on makes no sense; the violation is noted."""


@dataclass
class Seen:
    """What a trial has come to so far."""

    violations: list[Violation] = field(default_factory=list)
    performed: list[tuple[float, str]] = field(default_factory=list)
    """(seconds after the load began, the step)"""
    fates: dict[str, Fate] = field(default_factory=dict)
    published: dict[int, list[str] | None] = field(default_factory=dict)
    settled: float = 0.0
    recovered_s: float | None = None
    """From the end of the load until all nodes that run were near each other."""


class Trial:
    """One run of a manifest."""

    def __init__(
        self, manifest: Manifest, layout: Layout, fabric: Fabric, nodes: Nodes, screen: Screen
    ) -> None:
        self.manifest = manifest
        self.layout = layout
        self.nodes = nodes
        self.world = World.at_start(manifest)
        self.seen = Seen()
        self.watch = CutWatch(GRACE_S, layout.genesis.parameters.window)
        self.miners: list[Child] = []
        self.on_rows: Callable[[Rows], None] | None = None
        """Told of the figures at each look under load, for a soak."""
        self._fabric = fabric
        self._screen = screen
        self._client = httpx.AsyncClient()
        self._began = trio.current_time()
        self._hashes: dict[int, tuple[bytes, int]] = {}
        """height -> (chain hash, a node that said so)"""

    # --- looking -----------------------------------------------------------------------------

    def _reachable(self) -> list[int]:
        busy = self.world.paused
        return [n for n in range(len(self.nodes.sites)) if n not in busy and self.nodes.is_alive(n)]

    async def _look(self, phase: str) -> Rows:
        """Read all metrics, show them, and check what can be checked on the way."""
        rows: Rows = [None] * len(self.nodes.sites)
        now = trio.current_time()

        async def read(node: int) -> None:
            rows[node] = await processes.figures(self._client, self.nodes.site(node))

        async with trio.open_nursery() as nursery:
            for node in self._reachable():
                nursery.start_soon(read, node)
        self.nodes.sample()
        heights = {n: int(row["height"]) for n, row in enumerate(rows) if row is not None}
        for violation in self.watch.look(now, heights):
            self.note(violation)
        for row in rows:
            self.seen.settled = max(self.seen.settled, row["settled"] if row else 0)
        self._screen.progress(phase, rows, now - self._began)
        if self.on_rows is not None and phase == LOAD:
            self.on_rows(rows)
        for node in self.nodes.ended_unasked():
            self.note(Violation("nobody_died", f"node {node} {self.nodes.end_of(node)}", (node,)))
            raise _GiveUpError
        try:
            processes.check_alive(self.miners)
        except TestnetError as error:
            self.note(Violation("nobody_died", str(error)))
            raise _GiveUpError from error
        return rows

    def note(self, violation: Violation) -> None:
        """Remember a violation and say it."""
        self.seen.violations.append(violation)
        self._screen.say(f"VIOLATION {violation}")

    async def _until(self, phase: str, holds: Condition, deadline_s: float) -> None:
        rows: Rows = []
        with trio.move_on_after(deadline_s):
            while True:
                rows = await self._look(phase)
                if holds(rows):
                    return
                await trio.sleep(POLL_S)
        text = f"{phase}: not done after {deadline_s:g} s; figures {_short(rows)}"
        self.note(Violation("recovers", text, tuple(sorted(self.world.running))))
        raise _GiveUpError

    async def watch_status(self, api: Api) -> None:
        """Compare the nodes' chain hashes at equal heights, for ever."""
        while True:
            for node in self._reachable():
                status = await api.status(self.nodes.site(node))
                if status is None or not status.height:
                    continue
                known = self._hashes.setdefault(status.height, (status.chain_hash, node))
                if known[0] != status.chain_hash:
                    text = f"{known[0].hex()[:16]} and {status.chain_hash.hex()[:16]} at one height"
                    self.note(Violation("one_chain", text, (known[1], node), (status.height,)))
                    self._hashes[status.height] = (status.chain_hash, node)
            await trio.sleep(STATUS_S)

    # --- phases ------------------------------------------------------------------------------

    async def run(self, api: Api) -> None:
        """Go through all phases but the check of the files."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch_status, api)
            try:
                await self.start()
                await self.load()
                await self.recover()
                await self.drain(api)
            except* _GiveUpError:
                self._screen.say("going on makes no sense: ending the trial")
            nursery.cancel_scope.cancel()

    async def start(self) -> None:
        """Start the nodes that are there from the beginning, then the miners."""
        first = sorted(self.world.running)
        for node in first:
            await self.nodes.start(node)
        validators = [node for node in first if node < self.manifest.validators]
        await self._until(
            "starting nodes",
            lambda rows: (
                all(rows[node] is not None for node in first)
                and all((rows[n] or {}).get("links", 0) >= len(validators) - 1 for n in validators)
            ),
            START_DEADLINE_S,
        )
        for miner in self.layout.miners:
            self.miners.append(await processes.start_miner(miner))
        await self.nodes.watch_over(self.miners)
        await self._until(
            "starting miners",
            lambda rows: any(row is not None and row["accepted"] > 0 for row in rows),
            START_DEADLINE_S,
        )

    async def load(self) -> None:
        """Perform the events while the miners submit."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._perform_all, began)
            while trio.current_time() < began + self.manifest.duration:
                await self._look(LOAD)
                await trio.sleep(POLL_S)

    async def _perform_all(self, began: float) -> None:
        async with trio.open_nursery() as nursery:
            for step in steps_of(self.manifest):
                await trio.sleep_until(began + step.at)
                self._screen.say(f"{step.at:5.1f} s  {step}")
                self.seen.performed.append((round(trio.current_time() - began, 2), str(step)))
                was = self.world.conditions()
                self.world.apply(step)
                if isinstance(step.event, m.Partition | m.Disconnect | m.SlowLink | m.Heal):
                    await self._change_links(was)
                else:
                    nursery.start_soon(self._perform, step)

    async def _change_links(self, was: object) -> None:
        conditions = self.world.conditions()
        if was == conditions:
            return
        self.watch.end()  # before anything passes again
        await self._fabric.set_links(conditions)
        self.watch.change(trio.current_time(), self.world)

    async def _perform(self, step: Step) -> None:
        """Do to a node what a step says (`World.apply` is its model)."""
        event, nodes = step.event, self.nodes
        if isinstance(event, m.Kill):
            await (nodes.kill(event.node) if step.begins else nodes.start(event.node))
        elif isinstance(event, m.Restart):
            await nodes.restart(event.node, wipe=event.wipe)
        elif isinstance(event, m.Move):
            await nodes.move(event.node)
        elif isinstance(event, m.Pause):
            await (nodes.pause if step.begins else nodes.resume)(event.node)
        elif isinstance(event, m.ClockSkew):
            if step.begins or event.node in self.world.running:
                await nodes.skew(event.node, event.ms if step.begins else 0)
        elif isinstance(event, m.Join):
            await nodes.start(event.node)
        elif isinstance(event, m.Leave):
            await nodes.stop(event.node)
        elif isinstance(event, m.DiskFull):
            await (nodes.fill_disk if step.begins else nodes.empty_disk)(event.node)

    async def recover(self) -> None:
        """Wait until every node that runs has caught up."""
        began = trio.current_time()

        def is_near(rows: Rows) -> bool:
            present = self._present(rows)
            heights = [row["height"] for row in present if row is not None]
            return None not in present and min(heights) >= max(heights) - NEAR_SLOTS

        await self._until("recovering", is_near, RECOVER_DEADLINE_S)
        self.seen.recovered_s = round(trio.current_time() - began, 2)

    async def drain(self, api: Api) -> None:
        """Stop the miners, wait until nothing is open, and ask what became of everything."""
        async with trio.open_nursery() as nursery:
            for miner in self.miners:
                nursery.start_soon(processes.stop, miner)
        await self._until("draining", self._is_drained, DRAIN_DEADLINE_S)
        self.seen.published = published(self.layout)
        sites = [self.nodes.site(node) for node in sorted(self.world.counting())]
        ids = [entry for ids in self.seen.published.values() for entry in ids or []]
        self.seen.fates = await api.fates(sites, ids)

    def _present(self, rows: Rows) -> Rows:
        return [rows[node] for node in sorted(self.world.running)]

    def _is_drained(self, rows: Rows) -> bool:
        present = self._present(rows)
        if None in present or len({row["height"] for row in present if row is not None}) != 1:
            return False
        # Who does not count may have work that it cannot do.
        counting = [rows[n] for n in self.world.counting() if n < self.manifest.validators]
        return all(row is not None and row[name] == 0 for row in counting for name in QUIET)

    async def stop(self) -> None:
        """End all processes, at the same time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.nodes.stop_all)
            for miner in self.miners:
                nursery.start_soon(processes.stop, miner)
        await self._client.aclose()


def _short(rows: Rows) -> list[dict[str, float] | None]:
    names = ("height", "view", "links", "peers", "epoch", *QUIET)
    return [None if row is None else {n: row.get(n, -1) for n in names} for row in rows]
