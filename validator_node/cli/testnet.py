"""`validator-node testnet`: a whole network on this machine; `mine`: one miner of it."""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from validator_node.errors import ConfigError


def run_network(
    validators: Annotated[int, typer.Option(min=1, max=16, help="validator processes")] = 4,
    miners: Annotated[int, typer.Option(min=1, max=32, help="miner processes")] = 4,
    duration: Annotated[float, typer.Option(min=5, help="seconds of load")] = 60.0,
    kill_one: Annotated[
        bool, typer.Option("--kill-one", help="kill -9 the primary under load, bring it back")
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="empty folder for state and logs; default: a new one")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="write the report as JSON")] = None,
) -> None:
    """Run validators and miners on this machine until their weights are on the chain."""
    from validator_node.testnet.layout import TestnetOptions
    from validator_node.testnet.runner import run_testnet

    folder = state_dir or Path(tempfile.mkdtemp(prefix="validator-testnet-"))
    options = TestnetOptions(
        state_dir=folder,
        validators=validators,
        miners=miners,
        duration_s=duration,
        kill_one=kill_one,
        report=report,
    )
    if run_testnet(options) is None:
        raise typer.Exit(130)


def mine(
    config: Annotated[Path, typer.Option(help="JSON configuration written by `testnet`")],
    log_file: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Play one miner until SIGTERM."""
    from validator_node.config import load_genesis
    from validator_node.logs import configure
    from validator_node.miner import Miner, MinerConfig

    configure(log_file)
    try:
        values: dict[str, Any] = json.loads(config.read_text())
        loaded = MinerConfig(
            seed=bytes.fromhex(values.pop("seed")),
            genesis=load_genesis(Path(values.pop("genesis"))),
            bootstrap=tuple(values.pop("bootstrap")),
            report=Path(values.pop("report")),
            **values,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"miner configuration {config}: {error!r}") from error

    async def run() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:

            async def wait_for_signal() -> None:
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        stop.set()

            nursery.start_soon(wait_for_signal)
            await Miner(loaded).run(stop)
            nursery.cancel_scope.cancel()

    trio.run(run)
