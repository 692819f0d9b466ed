"""Runs trials: one, or several in a row, and says what came of them."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from validator_node.errors import TestnetError
from validator_node.testnet import leftovers
from validator_node.testnet import manifest as m
from validator_node.testnet.api import open_api
from validator_node.testnet.fabric import Fabric, choose, open_fabric
from validator_node.testnet.invariants import Violation, check_nothing_lost, count_fates
from validator_node.testnet.keeper import Keeper
from validator_node.testnet.layout import Layout, TestnetOptions, claim, prepare
from validator_node.testnet.manifest import Manifest, manifest_text
from validator_node.testnet.nodes import Nodes
from validator_node.testnet.processes import STOP_S
from validator_node.testnet.runner import cancel_on_signal, only_testnet_error
from validator_node.testnet.screen import Screen
from validator_node.testnet.soak import Soak
from validator_node.testnet.trial import Trial
from validator_node.testnet.trial_files import check_files
from validator_node.testnet.trial_screen import print_table, print_trial

MANIFEST_FILE = "manifest.toml"
REPORT_FILE = "report.json"


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """What the caller chooses for each trial."""

    state_dir: Path
    fabric: str = "auto"
    soak: bool = False


def run_trials(
    manifests: Sequence[Manifest], options: TrialOptions, report: Path | None = None
) -> bool | None:
    """Run one trial after the other; return whether all held, None if interrupted.

    With several manifests each has a folder in `state_dir`. Raises `TestnetError` for what keeps a
    single trial from being run at all; of several, such a one has failed and the others are run.
    """
    reports: list[dict[str, Any]] = []
    with Screen() as screen:
        for number, manifest in enumerate(manifests):
            single = len(manifests) == 1
            folder = options.state_dir
            if not single:
                name = number if manifest.seed is None else f"seed-{manifest.seed}"
                folder = folder / str(name)
                screen.say(f"--- {manifest.name} ({number + 1} of {len(manifests)})")
            try:
                done = _run_one(manifest, options, folder, screen)
            except TestnetError as error:
                if single:
                    raise
                screen.say(f"error: {error}")
                done = _not_run(manifest, folder, str(error))
            if done is None:
                screen.say("interrupted; every process has ended")
                return None
            print_trial(screen.console, done)
            reports.append(done)
        if len(reports) > 1:
            print_table(screen.console, reports)
    if report is not None:
        report.write_text(json.dumps(reports[0] if len(reports) == 1 else reports, indent=1) + "\n")
    return all(not done["violations"] for done in reports)


def _not_run(manifest: Manifest, folder: Path, why: str) -> dict[str, Any]:
    return {
        **_header(manifest, folder, "-"),
        "violations": [asdict(Violation("runs", why))],
    }


def _header(manifest: Manifest, folder: Path, fabric: str) -> dict[str, Any]:
    how = f"--seed {manifest.seed} --duration {manifest.duration:g}"
    if manifest.seed is None:
        how = f"--manifest {shlex.quote(str(folder / MANIFEST_FILE))}"
    return {
        "name": manifest.name,
        "seed": manifest.seed,
        "fabric": fabric,
        "validators": manifest.validators,
        "observers": manifest.observers,
        "events": [event.kind for event in manifest.event],
        "folder": str(folder),
        "replay": f"validator-node testnet {how} --fabric {fabric}",
        "nodes": [],
        "submissions": {},
        "cut_off": [],
        "seconds": 0.0,
        "recovered_s": None,
    }


def _run_one(
    manifest: Manifest, options: TrialOptions, folder: Path, screen: Screen
) -> dict[str, Any] | None:
    claim(folder)
    (folder / MANIFEST_FILE).write_text(manifest_text(manifest))
    for what in leftovers.remove_dead():
        screen.say(f"left over from a run that crashed, removed: {what}")
    fabric, why = choose(options.fabric, manifest)
    screen.say(f"state and logs: {folder}; fabric: {fabric}{f' ({why})' if why else ''}")
    began = time.monotonic()
    with only_testnet_error():
        report = trio.run(_run, manifest, folder, fabric, screen, options.soak)
    if report is not None:
        report["seconds"] = round(time.monotonic() - began, 1)
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
    return report


async def _run(
    manifest: Manifest, folder: Path, fabric_name: str, screen: Screen, with_soak: bool
) -> dict[str, Any] | None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
        async with AsyncExitStack() as stack:
            keeper = await Keeper.start(folder / "keeper.log")
            stack.push_async_callback(_shielded, keeper)
            fabric = await open_fabric(fabric_name, manifest.nodes, keeper, manifest.reach)
            stack.push_async_callback(_shielded, fabric)
            layout = prepare(_layout_options(manifest, folder), fabric)
            report = await _run_in(manifest, layout, fabric, keeper, screen, with_soak)
        nursery.cancel_scope.cancel()
        return report
    return None


async def _shielded(closing: Keeper | Fabric) -> None:
    with trio.CancelScope(shield=True):
        await closing.close()


def _layout_options(manifest: Manifest, folder: Path) -> TestnetOptions:
    return TestnetOptions(
        state_dir=folder,
        validators=manifest.validators,
        observers=manifest.observers,
        stakes=manifest.stakes,
        challenges=manifest.challenges,
        miners=manifest.miners.count,
        interval_s=manifest.miners.interval,
        per_message=manifest.miners.per_message,
        body_bytes=manifest.miners.body_bytes,
        skills=manifest.miners.skill,
        away=manifest.starts_later,
        duration_s=manifest.duration,
    )


async def _run_in(
    manifest: Manifest,
    layout: Layout,
    fabric: Fabric,
    keeper: Keeper,
    screen: Screen,
    with_soak: bool,
) -> dict[str, Any]:
    nodes = Nodes(layout, keeper, screen.say)
    for event in manifest.event:
        if isinstance(event, m.DiskFull) and event.node not in nodes.disks:
            nodes.make_disk(event.node)
    trial = Trial(manifest, layout, fabric, nodes, screen)
    soak = Soak()
    if with_soak:
        trial.on_rows = lambda rows: soak.take(nodes, rows)
    try:
        async with open_api(fabric.miner_host, layout.nodes) as api:
            try:
                await trial.run(api)
            finally:
                with trio.CancelScope(shield=True):
                    await trial.stop()
    finally:
        nodes.put_disks_back()
    if with_soak:
        soak.write(layout.options.state_dir / "soak.csv")
        trial.seen.violations += soak.violations()
    report = _report(trial, fabric.name)
    report["trends"] = [asdict(trend) for trend in soak.trends()]
    return report


def _report(trial: Trial, fabric: str) -> dict[str, Any]:
    """Check the files, and put everything together."""
    trial.watch.end()
    seen, world, layout = trial.seen, trial.world, trial.layout
    chains, found = check_files(layout, world, trial.nodes)
    violations = seen.violations + found
    if seen.published:
        disturbed = bool(trial.manifest.event)
        violations += check_nothing_lost(seen.published, seen.fates, disturbed=disturbed)
        if not any(fate.state in {"ended", "uncertified"} for fate in seen.fates.values()):
            violations.append(Violation("nothing_lost", "not one submission was finalised"))
    if trial.nodes.stubborn:
        text = f"not ended {STOP_S:g} s after SIGTERM, killed then"
        violations.append(Violation("ends_when_told", text, tuple(trial.nodes.stubborn)))
    rows = []
    for site in layout.nodes:
        chain, child = chains.get(site.index), trial.nodes.children.get(site.index)
        height = chain.height if chain else 0
        rows.append(
            {
                "node": site.index,
                "role": "observer" if site in layout.observers else "validator",
                "at_end": _state_at_end(trial, site.index),
                "height": height,
                "chain_hash": chain.digests.get(height, b"").hex() if chain else "",
                "rss_mb": child.last_rss_mb if child else 0.0,
                "cpu_s": round(child.last_cpu_s, 1) if child else 0.0,
            }
        )
    return {
        **_header(trial.manifest, layout.options.state_dir, fabric),
        "performed": seen.performed,
        "nodes": rows,
        "submissions": count_fates(seen.fates),
        "recovered_s": seen.recovered_s,
        "cut_off": [
            {"side": list(side), "stayed_at": height, "others_reached": others}
            for side, height, others in trial.watch.watched
        ],
        "disk_full": trial.nodes.last_words,
        "violations": [{**asdict(entry), "line": str(entry)} for entry in violations],
    }


def _state_at_end(trial: Trial, node: int) -> str:
    world = trial.world
    if node in world.left:
        return "left"
    if node not in world.running:
        return "down"
    marks = {"skewed": world.skewed, "wiped": world.wiped}
    return ", ".join(name for name, nodes in marks.items() if node in nodes) or "up"
