"""Entry point: commands, and one clear line for every error an operator can mend."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from validator_node.cli.exit_codes import ExitCode, exit_code_of
from validator_node.cli.lazy import LazyGroup
from validator_node.errors import OutputError, ToolSpokeError
from validator_node.terminal import (
    abandon_streams,
    finish_streams,
    prepare_streams,
    say,
    say_lines,
)

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
    from validator_node.network.limits import Limits
    from validator_node.open_files import ensure_open_files, needed
    from validator_node.run import run_node

    loaded = load_config(config)
    ensure_open_files(needed(loaded, Limits()))
    configure(log_file)
    trio.run(run_node, loaded)


@app.command()
def evidence(
    config: Annotated[Path, typer.Option(help="TOML configuration of the stopped node")],
) -> None:
    """Show the proofs this node keeps that validators contradicted themselves."""
    from validator_node.config import load_config, load_genesis
    from validator_node.opening import look_at_store

    loaded = load_config(config)
    with look_at_store(loaded.state_dir, load_genesis(loaded.genesis)) as store:
        for proof in store.evidence():
            for vote in (proof.first, proof.second):
                say(
                    f"validator {vote.signer} epoch {vote.epoch} view {vote.view} slot {vote.seq} "
                    f"{vote.kind} {vote.digest.hex()} {vote.signature.hex()}"
                )


@app.command()
def checkpoint(
    config: Annotated[Path, typer.Option(help="TOML configuration of the stopped node")],
) -> None:
    """Show the newest checkpoint at an epoch's edge, for `trusted_checkpoint` of a new node."""
    from validator_node.config import load_config, load_genesis
    from validator_node.errors import AbsentError
    from validator_node.opening import look_at_store

    loaded = load_config(config)
    with look_at_store(loaded.state_dir, load_genesis(loaded.genesis)) as store:
        edge = store.edge_checkpoint(store.executed_epoch - 1) if store.executed_epoch else None
    if edge is None:
        raise AbsentError(f"{loaded.state_dir}: no epoch has ended yet")
    say(f"{edge.checkpoint.epoch}:{edge.checkpoint.digest.hex()}")


@app.command()
def version() -> None:
    """Show the version and the evaluation engine's id, which a network pins."""
    from importlib.metadata import version as package_version

    from runtime.engine import engine_id

    say(f"validator-node {package_version('validator-node')}")
    say(f"engine {engine_id().hex()}")


def run_command(words: Sequence[str]) -> int:
    """Run one command and return its exit code (`exit_codes`); its errors are a line each."""
    prepare_streams()
    code: int
    try:
        try:
            app(words, prog_name="validator-node")
            code = ExitCode.DONE
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else ExitCode.NO
        finish_streams()
    except BrokenPipeError:
        code = ExitCode.READER_GONE
    except (Exception, BaseExceptionGroup) as error:
        code = _explain(error)
    abandon_streams()
    return code


def _explain(error: BaseException) -> int:
    """Say what went wrong, and return the exit code: of the first error in groups of known ones."""
    leaves = list(_leaves(error))
    codes = [exit_code_of(leaf) for leaf in leaves]
    if codes[0] is None or None in codes:
        traceback.print_exception(error)
        _tell("this is a fault of this program: please report it with the lines above")
        return ExitCode.FAULT
    if codes[0] is not ExitCode.INTERRUPTED:
        _tell(_words(leaves[0]), lines=isinstance(leaves[0], ToolSpokeError))
    return codes[0]


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        from validator_node.files import os_words

        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{where}{os_words(error)}"
    return str(error)


def _tell(words: str, *, lines: bool = False) -> None:
    with suppress(OSError, OutputError):  # standard error is closed: the code says it all
        (say_lines if lines else say)(f"error: {words}", err=True)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def main() -> None:
    """Run the command line; the exit code is one of `exit_codes`."""
    sys.exit(run_command(sys.argv[1:]))
