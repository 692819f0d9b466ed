"""The node processes of a trial, and everything that can be done to one of them."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import trio

from validator_node.testnet import disks, processes
from validator_node.testnet.disks import Disk
from validator_node.testnet.keeper import Keeper
from validator_node.testnet.layout import Layout, ValidatorSite, change_settings
from validator_node.testnet.processes import Child
from validator_node.testnet.wiring import quiet_ports

AFTERMATH_S = 10.0
"""A node that is to end because its disk was full has ended so soon after."""


class Nodes:
    """Validators and observers by index. What is done to one node is done in order."""

    def __init__(self, layout: Layout, keeper: Keeper, say: Callable[[str], None]) -> None:
        self.sites = layout.nodes
        self.children: dict[int, Child] = {}
        self.disks: dict[int, Disk] = {}
        self.last_words: list[str] = []
        """What nodes said that ended because their disk was full."""
        self.stubborn: list[int] = []
        """Nodes that did not end within `processes.STOP_S` of SIGTERM, once each time."""
        self._others: list[Child] = []
        self._keeper = keeper
        self._say = say
        self._locks = [trio.Lock() for _ in self.sites]
        self._wipes = 0

    def site(self, node: int) -> ValidatorSite:
        """Return a node's files and addresses."""
        return self.sites[node]

    def make_disk(self, node: int) -> None:
        """Give a node a disk that can be full; before it starts for the first time."""
        self.disks[node] = disks.make_disk(self._state(node), node)

    def _state(self, node: int) -> Path:
        return self.sites[node].folder / "state"

    def is_alive(self, node: int) -> bool:
        """Return whether a node's process runs, paused or not."""
        child = self.children.get(node)
        return child is not None and child.process.poll() is None

    def ended_unasked(self) -> list[int]:
        """Return the nodes whose process ended although nobody ended it."""
        return [
            node
            for node, child in self.children.items()
            if child.process.poll() is not None and not child.expected_end
        ]

    def end_of(self, node: int) -> str:
        """Say in a line how a node's process ended."""
        child = self.children[node]
        said = processes.last_line(child) or "no output"
        return f"ended with code {child.process.poll()}: {said} (log: {child.log})"

    # --- what can be done --------------------------------------------------------------------

    async def start(self, node: int) -> None:
        """Start a node unless it runs."""
        async with self._locks[node]:
            await self._start(node)

    async def _start(self, node: int) -> None:
        if self.is_alive(node):
            return
        before = self.children.get(node)
        child = await processes.start_validator(self.sites[node])
        if before is not None:
            child.cpu_before_s = before.last_cpu_s
        self.children[node] = child
        await self._name_wards()

    async def watch_over(self, others: list[Child]) -> None:
        """Have these processes too ended should the runner die, as the nodes are."""
        self._others = others
        await self._name_wards()

    async def _name_wards(self) -> None:
        children = [*self.children.values(), *self._others]
        await self._keeper.watch_over(c.usage for c in children if c.process.poll() is None)

    async def stop(self, node: int) -> None:
        """End a node with SIGTERM."""
        async with self._locks[node]:
            await self._stop(node)

    async def _stop(self, node: int) -> None:
        if self.is_alive(node) and not await processes.stop(self.children[node]):
            self.stubborn.append(node)

    async def kill(self, node: int) -> None:
        """End a node with SIGKILL."""
        async with self._locks[node]:
            if self.is_alive(node):
                await processes.kill(self.children[node])

    async def restart(self, node: int, *, wipe: bool = False) -> None:
        """End a node and start it, perhaps without what it had."""
        async with self._locks[node]:
            await self._stop(node)
            if wipe:
                self._wipe(node)
            await self._start(node)

    async def move(self, node: int) -> None:
        """Restart a node at another port."""
        async with self._locks[node]:
            await self._stop(node)
            change_settings(self.sites[node], {"listen_port": quiet_ports(1)[0]})
            await self._start(node)

    def _wipe(self, node: int) -> None:
        """Put everything aside but the mark that says that there was a journal."""
        self._wipes += 1
        aside = self.sites[node].folder / f"state-before-{self._wipes}"
        aside.mkdir()
        for entry in self._state(node).iterdir():
            if entry.name != "journal.marker":
                shutil.move(entry, aside / entry.name)

    async def skew(self, node: int, ms: int) -> None:
        """Restart a node with a clock that is `ms` ahead."""
        async with self._locks[node]:
            await self._stop(node)
            change_settings(self.sites[node], {"clock_offset_ms": ms})
            await self._start(node)

    async def pause(self, node: int) -> None:
        """Stop a node's process where it is."""
        await self._signal(node, signal.SIGSTOP)

    async def resume(self, node: int) -> None:
        """Let a paused process go on."""
        await self._signal(node, signal.SIGCONT)

    async def _signal(self, node: int, number: int) -> None:
        async with self._locks[node]:  # not in the middle of a restart
            if self.is_alive(node):
                self.children[node].process.send_signal(number)

    async def fill_disk(self, node: int) -> None:
        """Let a node write nothing more; it may end because of that."""
        async with self._locks[node]:
            child = self.children[node]
            child.expected_end = True
            await trio.to_thread.run_sync(disks.fill, self.disks[node], child.usage)

    async def empty_disk(self, node: int) -> None:
        """Give the space back; start the node again if it has ended."""
        async with self._locks[node]:
            child = self.children[node]
            disks.empty(self.disks[node], child.usage)
            with trio.move_on_after(AFTERMATH_S):
                await child.process.wait()
            if child.process.poll() is None:
                child.expected_end = False
                return
            words = f"node {node}, disk full, {self.end_of(node)}"
            self.last_words.append(words)
            self._say(words)
            await self._start(node)

    async def stop_all(self) -> None:
        """End all nodes, at the same time, the paused ones too."""
        async with trio.open_nursery() as nursery:
            for node in self.children:
                await self.resume(node)
                nursery.start_soon(self.stop, node)

    def put_disks_back(self) -> None:
        """Keep what lies on the small file systems in plain folders; after all have ended."""
        for disk in self.disks.values():
            disks.keep(disk)

    # --- what is left of them ----------------------------------------------------------------

    def journals(self, node: int) -> list[Path]:
        """Return the folders of all journals that a node has had."""
        folder = self.sites[node].folder
        candidates = [folder / "state", *sorted(folder.glob("state-before-*"))]
        return [path / "journal" for path in candidates if (path / "journal").is_dir()]

    def sample(self) -> None:
        """Note CPU time and memory of every running node."""
        for child in self.children.values():
            child.sample()

    def process(self, node: int) -> psutil.Process | None:
        """Return a running node's process."""
        return self.children[node].usage if self.is_alive(node) else None
