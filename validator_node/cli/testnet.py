"""`validator-node testnet`: a whole network on this machine; `mine`: one miner of it."""

from __future__ import annotations

import json
import random
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import trio
import typer

from validator_node.errors import ConfigError, TestnetError
from validator_node.files import read_text
from validator_node.stopping import stop_signals

if TYPE_CHECKING:
    from validator_node.testnet.manifest import Manifest

LOAD_S = 60.0
SOAK_S = 1800.0
MAX_TRIALS = 1000


def run_network(
    validators: Annotated[int, typer.Option(min=1, max=16, help="validator processes")] = 4,
    miners: Annotated[int, typer.Option(min=1, max=32, help="miner processes")] = 4,
    duration: Annotated[
        float | None, typer.Option(min=5, help="seconds of load  [default: 60]")
    ] = None,
    kill_one: Annotated[
        bool, typer.Option("--kill-one", help="kill -9 the primary under load, bring it back")
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="empty folder for state and logs; default: a new one")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="write the report as JSON")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="run the trial of this TOML file (docs/testnet.md)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="run the random trial of this seed")] = None,
    seeds: Annotated[str | None, typer.Option(help="run the trials of these seeds: A-B")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=MAX_TRIALS, help="run so many, from --seed on")
    ] = None,
    soak: Annotated[
        bool, typer.Option("--soak", help="steady load; fail if anything keeps growing")
    ] = False,
    fabric: Annotated[
        str, typer.Option(help="what cuts links: auto, namespaces or proxy")
    ] = "auto",
) -> None:
    """Run validators and miners on this machine until their weights are on the chain.

    With a manifest or a seed, run a trial instead: perturb the network, then check its invariants.
    """
    folder = state_dir or Path(tempfile.mkdtemp(prefix="validator-testnet-"))
    if manifest is None and seed is None and seeds is None and count is None and not soak:
        _run_plain(folder, validators, miners, duration or LOAD_S, kill_one, report)
        return
    if kill_one:
        raise TestnetError("--kill-one does not go with a trial: write a kill into its manifest")
    if soak:
        if manifest is not None or seed is not None or seeds is not None or count is not None:
            raise TestnetError("--soak does not go with --manifest, --seed, --seeds or --count")
        chosen = [_soak_manifest(validators, miners, duration or SOAK_S)]
    else:
        chosen = _manifests(manifest, seed, seeds, count, duration)
    _run_trials(chosen, folder, fabric, report, soak=soak)


def _run_plain(
    folder: Path,
    validators: int,
    miners: int,
    duration: float,
    kill_one: bool,
    report: Path | None,
) -> None:
    from validator_node.testnet.layout import TestnetOptions
    from validator_node.testnet.runner import run_testnet

    options = TestnetOptions(
        state_dir=folder,
        validators=validators,
        miners=miners,
        duration_s=duration,
        kill_one=kill_one,
        report=report,
        devchain=True,
    )
    if run_testnet(options) is None:
        raise typer.Exit(130)


def _soak_manifest(validators: int, miners: int, duration: float) -> Manifest:
    from validator_node.testnet.manifest import Manifest, Miners

    load = Miners(count=miners, interval=1.0, per_message=2)
    return Manifest(name="soak", validators=validators, duration=duration, miners=load)


def _manifests(
    file: Path | None,
    seed: int | None,
    seeds: str | None,
    count: int | None,
    duration: float | None,
) -> list[Manifest]:
    from validator_node.testnet.generator import generate
    from validator_node.testnet.manifest import load_manifest

    if file is not None:
        if seed is not None or seeds is not None or count is not None or duration is not None:
            raise TestnetError(
                "--manifest says everything: leave out --seed, --seeds, --count and --duration"
            )
        return [load_manifest(file)]
    return [generate(number, duration) for number in chosen_seeds(seed, seeds, count)]


def chosen_seeds(seed: int | None, seeds: str | None, count: int | None) -> range:
    """Return the seeds that the options ask for; `TestnetError` if they contradict each other."""
    if seeds is None:
        first = random.randrange(1_000_000) if seed is None else seed  # noqa: S311 - no secret
        return range(first, first + (count or 1))
    found = re.fullmatch(r"(\d+)-(\d+)", seeds)
    if found is None or seed is not None or count is not None:
        raise TestnetError(
            f"--seeds {seeds}: two numbers like 1-20 were expected, without --seed and --count"
        )
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + MAX_TRIALS:
        raise TestnetError(f"--seeds {seeds}: 1 to {MAX_TRIALS} seeds, the smaller first")
    return range(first, last + 1)


def _run_trials(
    manifests: list[Manifest], folder: Path, fabric: str, report: Path | None, *, soak: bool
) -> None:
    from validator_node.testnet.fabric import CHOICES
    from validator_node.testnet.trials import TrialOptions, run_trials

    if fabric not in CHOICES:
        raise TestnetError(f"--fabric {fabric}: one of {', '.join(CHOICES)} was expected")
    options = TrialOptions(state_dir=folder, fabric=fabric, soak=soak)
    held = run_trials(manifests, options, report)
    if held is None:
        raise typer.Exit(130)
    if not held:
        raise typer.Exit(1)


def mine(
    config: Annotated[Path, typer.Option(help="JSON configuration written by `testnet`")],
    log_file: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Play one miner until it is told to stop."""
    from validator_node.config import load_genesis
    from validator_node.logs import configure
    from validator_node.miner import Miner, MinerConfig

    configure(log_file)
    try:
        values: dict[str, Any] = json.loads(read_text(config, "miner configuration"))
        loaded = MinerConfig(
            seed=bytes.fromhex(values.pop("seed")),
            genesis=load_genesis(Path(values.pop("genesis"))),
            bootstrap=tuple(values.pop("bootstrap")),
            report=Path(values.pop("report")),
            **values,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"miner configuration {config}: {error!r}") from error

    async def run() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:

            async def wait_for_signal() -> None:
                with trio.open_signal_receiver(*stop_signals()) as signals:
                    async for _ in signals:
                        stop.set()

            nursery.start_soon(wait_for_signal)
            await Miner(loaded).run(stop)
            nursery.cancel_scope.cancel()

    trio.run(run)
