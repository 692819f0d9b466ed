"""The network under attack: real nodes on loopback, honest users beside it, hostile processes.

A phase is a time of which `Seen` is made; a stage runs one after the other. Late nodes are the
layout's observers: they start when an attack wants a newcomer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from tests.attacks.honest import MinerSpec, Spec, Told
from tests.attacks.pipes import end, lines
from tests.attacks.record import TAIL_S, Ears, Record, Sample
from tests.attacks.seen import Seen
from validator_node.errors import TestnetError
from validator_node.testnet import processes
from validator_node.testnet.layout import Layout, TestnetOptions, ValidatorSite, prepare
from validator_node.testnet.processes import Child, Figures

ROOT = Path(__file__).parents[2]
START_S = 240.0
SAMPLE_S = 1.0
READY_S = 90.0
SETTLE_S = 60.0
"""How long what was published in a phase may take after it, at the least."""
HONEST_MINERS = 3
LARGE_MINERS = 2
"""Registered for honest bodies that travel by hash."""
HOSTILE_MINERS = 4
"""Registered hotkeys in hostile hands."""


class Hostile:
    """A hostile process and what it has told."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.peers: set[str] = set()
        self.told: dict[str, Any] = {}
        self.changed = trio.Event()

    async def until(self, name: str, deadline_s: float = 60.0) -> Any:
        """Wait until it has told of something; return it."""
        with trio.fail_after(deadline_s):
            while name not in self.told:
                await self.changed.wait()
        return self.told[name]


class Stage:
    """A running network."""

    def __init__(self, layout: Layout, nursery: trio.Nursery, log: Path) -> None:
        self.layout = layout
        self.nodes: dict[int, Child] = {}
        self.record = Record(site.log for site in layout.nodes)
        self.samples, self.fates, self.ears = (
            self.record.samples,
            self.record.fates,
            self.record.ears,
        )
        self.sampled = trio.Event()
        self._nursery = nursery
        self._log = log
        self._client = httpx.AsyncClient()
        self._count = 0
        self._newcomers = iter([site.index for site in layout.observers])

    # --- processes -------------------------------------------------------------------------------

    def site(self, node: int) -> ValidatorSite:
        """Return a node's files and addresses."""
        return self.layout.nodes[node]

    def seeds(self, first: int, count: int) -> list[str]:
        """Return the seeds of registered hotkeys, in hexadecimal."""
        chosen = self.layout.miners[first : first + count]
        return [json.loads(site.config.read_text())["seed"] for site in chosen]

    @property
    def registered(self) -> int:
        """How many hotkeys without a node are registered."""
        return len(self.layout.miners)

    @property
    def hostile_seeds(self) -> list[str]:
        """Seeds of the registered hotkeys that hostile processes may use."""
        return self.seeds(HONEST_MINERS + LARGE_MINERS, HOSTILE_MINERS)

    def newcomer(self) -> int:
        """Return a node that has not run yet."""
        return next(self._newcomers)

    async def start_node(self, node: int, *prefix: str) -> None:
        """Start a node that does not run; `prefix` stands before its command."""
        site = replace(self.site(node), prefix=prefix)
        self.nodes[node] = await processes.start_validator(site)

    async def stop_node(self, node: int) -> None:
        """End a node."""
        child = self.nodes.pop(node, None)
        if child is not None:
            await processes.stop(child)

    async def start(self) -> None:
        """Start validators and honest miners; return when something has been settled."""
        for site in self.layout.validators:
            await self.start_node(site.index)
        self._nursery.start_soon(self._sample_on)
        others = len(self.layout.validators) - 1
        await self.wait(
            lambda s: (
                len(s.rows) > others
                and all(row.get("links", 0) >= others for row in s.rows.values())
            ),
            "links between all validators",
            START_S,
        )
        addresses = [site.address for site in self.layout.validators]
        turned = [addresses[i % len(addresses) :] + addresses for i in range(HONEST_MINERS)]
        miners = [
            MinerSpec(seed=seed, bootstrap=bootstrap[:2], skill=number % 4)
            for number, (seed, bootstrap) in enumerate(
                zip(self.seeds(0, HONEST_MINERS), turned, strict=True)
            )
        ]
        await self.start_honest(miners=miners, subscribers=addresses)
        await self.wait(lambda s: s.most("settled") > 0, "a settled submission", START_S)

    async def start_honest(
        self, *, miners: Iterable[MinerSpec] = (), subscribers: Iterable[str] = ()
    ) -> Ears:
        """Start honest users in a process of their own; return its subscribers' ears."""
        self._count += 1
        path = self.layout.options.state_dir / f"honest-{self._count}.spec.json"
        spec = Spec(
            genesis=str(self.layout.genesis_file),
            folder=str(self.layout.options.state_dir),
            nodes=[site.address for site in self.layout.validators],
            miners=list(miners),
            subscribers=list(subscribers),
        )
        path.touch(0o600)
        path.write_bytes(msgspec.json.encode(spec))
        process = await self._open("tests.attacks.honest", str(path))
        ears = Ears(process)
        self.ears.append(ears)
        self._nursery.start_soon(self._listen, ears)
        return ears

    async def ready(self, ears: Ears, count: int) -> None:
        """Wait until so many subscribers are, as far as they come in `READY_S`."""
        with trio.move_on_after(READY_S):
            await self.until(lambda _: len(ears.ready) >= count)

    async def rest(self) -> None:
        """Let the honest miners stop; what they have published is known then."""
        for ears in self.ears:
            if ears.process.poll() is None and ears.process.stdin is not None:
                await ears.process.stdin.aclose()
                await ears.process.wait()
        await trio.sleep(TAIL_S)

    async def dismiss(self, ears: Ears) -> None:
        """End honest users once the messages that are on their way have come."""
        ears.until = time.monotonic()
        await trio.sleep(TAIL_S)
        await end(ears.process)

    @asynccontextmanager
    async def hostile(self, name: str, **settings: Any) -> AsyncIterator[Hostile]:
        """Run the hostile side of an attack in a process of its own until the block ends."""
        self._count += 1
        path = self.layout.options.state_dir / f"hostile-{self._count}.json"
        path.write_text(json.dumps({"genesis": str(self.layout.genesis_file), **settings}))
        hostile = Hostile(await self._open("tests.attacks.hostile", name, str(path)))
        self._nursery.start_soon(self._follow, hostile)
        try:
            yield hostile
        finally:
            with trio.CancelScope(shield=True):
                await end(hostile.process)

    async def _open(self, module: str, *arguments: str) -> trio.Process:
        with self._log.open("ab") as errors:
            return await trio.lowlevel.open_process(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    async def _listen(self, ears: Ears) -> None:
        try:
            async for line in lines(ears.process):
                self.record.take(msgspec.json.decode(line, type=Told), ears)
        finally:
            with trio.CancelScope(shield=True):
                await end(ears.process)

    async def _follow(self, hostile: Hostile) -> None:
        async for line in lines(hostile.process):
            told = json.loads(line)
            self.record.hostile_peers.update(told.pop("peers", ()))
            hostile.told.update(told)
            hostile.changed.set()
            hostile.changed = trio.Event()

    # --- looking ---------------------------------------------------------------------------------

    async def _sample_on(self) -> None:
        while True:
            rows: dict[int, Figures] = {}

            async def read(node: int, rows: dict[int, Figures] = rows) -> None:
                row = await processes.figures(self._client, self.site(node))
                if row is not None:
                    rows[node] = row

            async with trio.open_nursery() as nursery:
                for node in list(self.nodes):
                    nursery.start_soon(read, node)
            for child in self.nodes.values():
                child.sample()
            most = max((child.last_rss_mb for child in self.nodes.values()), default=0.0)
            self.samples.append(Sample(time.monotonic(), rows, most))
            self.sampled.set()
            self.sampled = trio.Event()
            await self._revive()
            await trio.sleep(SAMPLE_S)

    async def _revive(self) -> None:
        """Note a node that ended although nobody ended it, and start it again as operators do."""
        for node, child in list(self.nodes.items()):
            try:
                processes.check_alive([child])
            except TestnetError as error:
                self.record.deaths.append((time.monotonic(), str(error)))
                await self.start_node(node)

    async def wait(
        self, holds: Callable[[Sample], bool], what: str, deadline_s: float
    ) -> float | None:
        """Wait until a sample shows something; return after how many seconds, None if never."""
        began = time.monotonic()
        with trio.move_on_after(deadline_s):
            while not (self.samples and holds(self.samples[-1])):
                await self.sampled.wait()
            return time.monotonic() - began
        if deadline_s >= START_S:
            raise TimeoutError(
                f"no {what} after {deadline_s:g} s: see {self.layout.options.state_dir}"
            )
        return None

    async def until(self, holds: Callable[[Sample], bool]) -> None:
        """Wait until a sample shows something."""
        while not holds(self.samples[-1]):
            await self.sampled.wait()

    async def phase(
        self,
        name: str,
        seconds: float,
        play: Callable[[], Awaitable[dict[str, float] | None]] | None = None,
        *,
        settle: bool = True,
    ) -> Seen:
        """Let a phase pass, with an attack or without; return what the honest saw.

        What was published in it may come to its end for as long again, and `SETTLE_S`; without
        `settle` the attack has seen to that.
        """
        began, banned, figures = time.monotonic(), self.record.bans(), {}
        if play is None:
            await trio.sleep(seconds)
        else:
            figures = await play() or {}
        ended = time.monotonic()
        if settle:
            await trio.sleep(TAIL_S)  # what was published at last is told a moment later
            mine = self.record.published(began, ended)
            with trio.move_on_after(SETTLE_S + seconds):
                while not all(self.fates[key].is_settled for key in mine):
                    await self.sampled.wait()
        return self.record.seen(name, began, ended, banned, figures)

    async def close(self) -> None:
        """End all nodes, at the same time."""
        async with trio.open_nursery() as nursery:
            for node in list(self.nodes):
                nursery.start_soon(self.stop_node, node)
        await self._client.aclose()


@asynccontextmanager
async def open_stage(
    folder: Path, *, nodes: int, observers: int = 0, miners: int = 0
) -> AsyncIterator[Stage]:
    """Run a network with honest load until the block ends.

    `observers` do not run yet; `miners` hotkeys are registered beyond those every stage has.
    """
    registered = HONEST_MINERS + LARGE_MINERS + HOSTILE_MINERS + miners
    options = TestnetOptions(
        state_dir=folder,
        validators=nodes,
        observers=observers,
        miners=registered,
        away=frozenset(range(nodes, nodes + observers)),
    )
    layout = prepare(options)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stage = Stage(layout, nursery, folder / "users.log")
        try:
            await stage.start()
            yield stage
        finally:
            with trio.CancelScope(shield=True):
                await stage.close()
            nursery.cancel_scope.cancel()
