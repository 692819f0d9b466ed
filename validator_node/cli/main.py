"""Entry point: commands, and one clear line for every error an operator can mend."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from validator_node.cli.lazy import LazyGroup
from validator_node.errors import NodeError

app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="TOML configuration of this node")],
    log_file: Annotated[
        Path | None, typer.Option(help="JSON log file; default: readable lines on stderr")
    ] = None,
) -> None:
    """Run a validator node until SIGINT, SIGTERM or SIGHUP."""
    import trio

    from validator_node.config import load_config
    from validator_node.logs import configure
    from validator_node.run import run_node

    loaded = load_config(config)
    configure(log_file)
    trio.run(run_node, loaded)


@app.command()
def evidence(
    config: Annotated[Path, typer.Option(help="TOML configuration of the stopped node")],
) -> None:
    """Show the proofs this node keeps that validators contradicted themselves."""
    from validator_node.config import load_config, load_genesis
    from validator_node.store import Store

    loaded = load_config(config)
    store = Store.open(loaded.state_dir / "db", load_genesis(loaded.genesis))
    try:
        for proof in store.evidence():
            for vote in (proof.first, proof.second):
                typer.echo(
                    f"validator {vote.signer} epoch {vote.epoch} view {vote.view} slot {vote.seq} "
                    f"{vote.kind} {vote.digest.hex()} {vote.signature.hex()}"
                )
    finally:
        store.close()


@app.command()
def checkpoint(
    config: Annotated[Path, typer.Option(help="TOML configuration of the stopped node")],
) -> None:
    """Show the newest checkpoint at an epoch's edge, for `trusted_checkpoint` of a new node."""
    from validator_node.config import load_config, load_genesis
    from validator_node.errors import ConfigError
    from validator_node.store import Store

    loaded = load_config(config)
    store = Store.open(loaded.state_dir / "db", load_genesis(loaded.genesis))
    try:
        edge = store.edge_checkpoint(store.executed_epoch - 1)
    finally:
        store.close()
    if edge is None:
        raise ConfigError(f"{loaded.state_dir}: no epoch has ended yet")
    typer.echo(f"{edge.checkpoint.epoch}:{edge.checkpoint.digest.hex()}")


@app.command()
def version() -> None:
    """Show the version and the evaluation engine's id, which a network pins."""
    from importlib.metadata import version as package_version

    from runtime.engine import engine_id

    typer.echo(f"validator-node {package_version('validator-node')}")
    typer.echo(f"engine {engine_id().hex()}")


def _only_error(error: BaseException) -> BaseException:
    """Return the one error inside nested groups."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def main() -> None:
    """Run the command line; exit 1 with one line for an error that its user can mend."""
    try:
        app()
    except (Exception, BaseExceptionGroup) as group:
        error = _only_error(group)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(130)
        if not isinstance(error, NodeError):
            from chain.watchdog import ChainLostError
            from storage.errors import StorageError
            from validator_node.network.errors import NetworkError

            if not isinstance(error, NetworkError | StorageError | ChainLostError):
                raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
