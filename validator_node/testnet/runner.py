"""Runs a test network: start, load, perhaps kill the primary, drain, stop, report.

Every phase has a deadline and shows its progress; a child that dies on its own ends the run with
its last words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import trio

from chain.interface import WeightVector
from validator_node.errors import TestnetError
from validator_node.stopping import stop_signals
from validator_node.testnet import processes
from validator_node.testnet.chain_site import read_weights
from validator_node.testnet.layout import Layout, TestnetOptions, prepare
from validator_node.testnet.processes import Child, Figures
from validator_node.testnet.report import make_report
from validator_node.testnet.screen import Screen, print_report

START_DEADLINE_S = 90.0
DRAIN_DEADLINE_S = 60.0
LANDING_S = 300.0
"""For a validator that was killed while it submitted: it waits until its call cannot land."""
RECOVER_DEADLINE_S = 30.0
POLL_S = 0.5
FINE_POLL_S = 0.05
KILL_AT = 0.4
"""Fraction of the load phase after which `kill_one` strikes."""
DOWN_S = 4.0

Condition = Callable[[list[Figures | None]], bool]


class Testnet:
    """One run."""

    __test__ = False

    def __init__(self, layout: Layout, screen: Screen, client: httpx.AsyncClient) -> None:
        self._layout = layout
        self._screen = screen
        self._client = client
        self._validators: list[Child] = []
        self._miners: list[Child] = []
        self._chain: Child | None = None
        self.stored: dict[int, WeightVector] = {}
        """What the development chain held for each validator when the network was drained."""
        self._started = trio.current_time()
        self.recovery_s: float | None = None
        """From the primary's death to the first decision of a later view."""

    @property
    def validators(self) -> list[Child]:
        """The validators' processes, by index."""
        return self._validators

    async def _figures(self) -> list[Figures | None]:
        rows: list[Figures | None] = [None] * len(self._layout.validators)

        async def read(index: int) -> None:
            rows[index] = await processes.figures(self._client, self._layout.validators[index])

        async with trio.open_nursery() as nursery:
            for index in range(len(rows)):
                nursery.start_soon(read, index)
        return rows

    async def _watch(
        self, phase: str, until: Condition | None, deadline_s: float, poll_s: float = POLL_S
    ) -> bool:
        """Show progress until `until` holds; False when `deadline_s` passed first."""
        with trio.move_on_after(deadline_s):
            while True:
                chain = [] if self._chain is None else [self._chain]
                processes.check_alive([*chain, *self._validators, *self._miners])
                rows = await self._figures()
                for child in self._validators:
                    child.sample()
                self._screen.progress(phase, rows, trio.current_time() - self._started)
                if until is not None and until(rows):
                    return True
                await trio.sleep(poll_s)
        return until is None

    async def _require(
        self, phase: str, until: Condition, deadline_s: float, poll_s: float = POLL_S
    ) -> None:
        if not await self._watch(phase, until, deadline_s, poll_s):
            rows = await self._figures()
            raise TestnetError(
                f"{phase}: not done after {deadline_s:g} s (figures: {rows}); see the logs in "
                f"{self._layout.options.state_dir}"
            )

    # --- phases ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the chain and the validators, wait until all are linked, then start the miners."""
        if self._layout.chain is not None:
            self._chain = await processes.start_chain(self._layout.chain)
        for site in self._layout.validators:
            self._validators.append(await processes.start_validator(site))
        others = len(self._validators) - 1
        await self._require(
            "starting validators", _all(lambda row: row["links"] >= others), START_DEADLINE_S
        )
        for miner in self._layout.miners:
            self._miners.append(await processes.start_miner(miner))
        await self._require(
            "starting miners", _all(lambda row: row["accepted"] > 0), START_DEADLINE_S
        )

    async def load(self) -> None:
        """Let the miners submit for the chosen time; kill and restart the primary if asked to."""
        duration_s = self._layout.options.duration_s
        if not self._layout.options.kill_one:
            await self._watch("evaluating", None, duration_s)
            return
        await self._watch("evaluating", None, duration_s * KILL_AT)
        began = trio.current_time()
        await self._kill_primary()
        await self._watch(
            "evaluating", None, max(0.0, duration_s * (1 - KILL_AT) - trio.current_time() + began)
        )

    async def _kill_primary(self) -> None:
        rows = await self._figures()
        primary = int(next(row for row in rows if row is not None)["primary"])
        height = max(row["height"] for row in rows if row is not None)
        victim = self._validators[primary]
        victim.sample()
        await processes.kill(victim)
        killed_at = trio.current_time()
        self._screen.say(f"killed validator {primary}, the primary, at height {height:.0f}")
        others = [index for index in range(len(rows)) if index != primary]

        def decided(now: list[Figures | None]) -> bool:
            # slots the dead primary had in flight may still be decided; one more is a new view's
            window = self._layout.genesis.parameters.window
            heights = [row["height"] for index in others if (row := now[index]) is not None]
            return bool(heights) and max(heights) > height + window

        await self._require("primary killed", decided, RECOVER_DEADLINE_S, FINE_POLL_S)
        self.recovery_s = round(trio.current_time() - killed_at, 2)
        self._screen.say(f"the others went on after {self.recovery_s:.1f} s")
        await self._watch("primary down", None, DOWN_S)
        revived = await processes.start_validator(self._layout.validators[primary])
        revived.cpu_before_s = victim.last_cpu_s
        self._validators[primary] = revived

        def caught_up(now: list[Figures | None]) -> bool:
            mine = now[primary]
            heights = [row["height"] for row in now if row is not None]
            return mine is not None and mine["height"] >= max(heights) - 2

        await self._require("catching up", caught_up, START_DEADLINE_S)
        self._screen.say(f"validator {primary} is back at the others' height")

    async def drain(self) -> None:
        """Stop the miners, wait until nothing is open, and until the weights are on the chain."""
        async with trio.open_nursery() as nursery:
            for miner in self._miners:
                nursery.start_soon(processes.stop, miner)
        await self._require("draining", self._is_drained, DRAIN_DEADLINE_S)
        chain = self._layout.genesis.chain
        epoch_s = chain.tempo * chain.block_time_ms / 1000
        await self._require(
            "submitting weights",
            lambda rows: (
                self._is_drained(rows)
                and all(r is not None and r["weights_epoch"] >= r["results_epoch"] for r in rows)
            ),
            2 * epoch_s + DRAIN_DEADLINE_S + LANDING_S,
        )
        if self._layout.chain is not None:
            uids = [site.index for site in self._layout.validators]
            netuid = self._layout.genesis.chain.netuid
            try:
                self.stored = await read_weights(self._layout.chain, netuid, uids)
            except trio.TooSlowError as error:
                raise TestnetError(
                    f"the development chain did not show its weights; see {self._layout.chain.log}"
                ) from error

    def _is_drained(self, rows: list[Figures | None]) -> bool:
        quiet = ("statements_waiting", "submissions_waiting", "evaluations_waiting", "pending")
        present = [row for row in rows if row is not None]
        return (
            len(present) == len(rows)
            and all(row[name] == 0 for row in present for name in quiet)
            and len({row["height"] for row in present}) == 1
        )

    async def stop(self) -> None:
        """End all processes, at the same time."""
        async with trio.open_nursery() as nursery:
            for child in [*self._miners, *self._validators]:
                nursery.start_soon(processes.stop, child)
        if self._chain is not None:
            await processes.stop(self._chain)


def _all(holds: Callable[[Figures], bool]) -> Condition:
    return lambda rows: all(row is not None and holds(row) for row in rows)


async def cancel_on_signal(scope: trio.CancelScope) -> None:
    """Cancel `scope` on one of `stop_signals`."""
    with trio.open_signal_receiver(*stop_signals()) as signals:
        async for _ in signals:
            scope.cancel()


async def _run_phases(layout: Layout, screen: Screen) -> tuple[Testnet, float] | None:
    async with httpx.AsyncClient() as client:
        testnet = Testnet(layout, screen, client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
            try:
                await testnet.start()
                began = trio.current_time()
                await testnet.load()
                loaded_s = trio.current_time() - began
                await testnet.drain()
            finally:
                with trio.CancelScope(shield=True):
                    await testnet.stop()
            nursery.cancel_scope.cancel()
            return testnet, loaded_s
    return None


@contextmanager
def only_testnet_error() -> Iterator[None]:
    """Raise the first `TestnetError` inside groups as itself; its cause is the whole group."""
    try:
        yield
    except BaseExceptionGroup as group:
        known = group.subgroup(TestnetError)
        if known is None:
            raise
        error: BaseException = known
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


def run_testnet(options: TestnetOptions) -> dict[str, Any] | None:
    """Run a test network and return its report; None if it was interrupted.

    Raises `TestnetError` for whatever did not go as promised.
    """
    with Screen() as screen:
        layout = prepare(options)
        screen.say(f"state and logs: {options.state_dir}")
        with only_testnet_error():
            ended = trio.run(_run_phases, layout, screen)
    if ended is None:
        screen.say("interrupted; every process has ended")
        return None
    testnet, loaded_s = ended
    report = make_report(layout, loaded_s, testnet.validators, testnet.stored)
    report["recovery_s"] = testnet.recovery_s
    print_report(screen.console, report)
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=1) + "\n")
        screen.say(f"report: {options.report}")
    screen.say(f"state and logs: {options.state_dir}")
    return report
