"""`validator-node db`: look at, check and mend the database of a stopped node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from validator_node import database_check, database_repair, database_rollback, database_tools
from validator_node.config import load_config, load_genesis
from validator_node.database_tools import Inspection, Report
from validator_node.opening import begin_store, database_path
from validator_node.terminal import Terminal, say, say_json, say_table

app = typer.Typer(
    no_args_is_help=True, help="Database: inspect, begin, compact, verify, rollback, repair."
)

ConfigOption = Annotated[Path, typer.Option(help="TOML configuration of the stopped node")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@app.command()
def inspect(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show where the database stands and what it holds. Works after a crash, too."""
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    with _progress() as report:
        found = database_tools.inspect(loaded.state_dir, genesis, report)
    if as_json:
        _print_json(asdict(found))
        return
    say_table(_standing(found))
    say_table(_columns(found))
    if found.snapshots:
        say_table(_snapshots(found))


@app.command()
def begin(config: ConfigOption) -> None:
    """Begin an empty database because the node's state folder is lost for good.

    A node begins its first database by itself. One whose key has a signing history elsewhere does
    not: most often state_dir names the wrong folder, or a disk is not mounted. With a database
    begun here it observes, and takes the state from its peers; it votes again once the history is
    imported, or with a new consensus key.
    """
    loaded = load_config(config)
    begin_store(loaded, load_genesis(loaded.genesis))
    say(f"{database_path(loaded.state_dir)}: begun")


@app.command()
def compact(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Rewrite the database's files without what was deleted or overwritten."""
    loaded = load_config(config)
    before, after = database_tools.compact(loaded.state_dir)
    if as_json:
        _print_json({"bytes_before": before, "bytes_after": after})
    else:
        say(f"{before:,} bytes before, {after:,} bytes after")


@app.command()
def verify(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Check the whole database; name the first damage and exit 1 if there is any."""
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    try:
        with _progress() as report:
            done = database_check.verify(loaded.state_dir, genesis, report)
    except database_check.DamageFoundError as error:
        if as_json:
            _print_json({"whole": False, "stage": error.stage, "damage": error.detail})
        else:
            say(f"damaged: {error}", err=True)
            say(_advice(error.stage), err=True)
        raise typer.Exit(1) from error
    if as_json:
        _print_json({"whole": True, **asdict(done)})
        return
    table = Table("checked", "count", title="Nothing is damaged")
    for name, count in asdict(done).items():
        table.add_row(name, f"{count:,}")
    say_table(table)


@app.command()
def rollback(
    config: ConfigOption,
    to: Annotated[int, typer.Option(help="slot after which the state is wanted")],
    as_json: JsonOption = False,
) -> None:
    """Take the database back to an earlier slot; the old one is kept beside it.

    The journal is not touched. At its next start the node executes again what was decided since.
    """
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    with _progress() as report:
        done = database_rollback.rollback(loaded.state_dir, genesis, to, report)
    if as_json:
        _print_json(asdict(done))
        return
    begun = f"the snapshot of slot {done.base}" if done.base else "the genesis"
    say(f"from slot {done.height_before} to slot {done.height}, replayed from {begun}")
    say(f"state root {done.state_root}")
    say(f"the database as it was: {done.kept} (delete it when you are content)")


@app.command()
def repair(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Mend a damaged database, or say that the node must sync again; the damaged one is kept.

    What can be read is rebuilt and checked from one end to the other. Where the state does not hold
    it is executed again, up to the last slot that is held; the node fetches what came after.
    """
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    with _progress() as report:
        done = database_repair.repair(loaded.state_dir, genesis, report)
    if as_json:
        _print_json(asdict(done))
        return
    say(f"mended and checked: the database is whole, at slot {done.height}")
    if done.executed_again:
        say("the state was made anew from the log")
    if done.dropped:
        say(
            f"{done.dropped:,} bodies and proofs did not hold; the node fetches or makes them again"
        )
    say(f"the damaged database: {done.kept} (delete it when you are content)")


def _advice(stage: str) -> str:
    if stage == "snapshots":
        return "the node drops it when it is asked for it, and makes another; nothing is to be done"
    return "keep the journal, and run `validator-node db repair`"


def _standing(found: Inspection) -> Table:
    table = Table(show_header=False, title=found.path)
    rows = {
        "schema": found.schema,
        "network": found.network_id,
        "height": f"{found.height:,}",
        "epoch": str(found.epoch),
        "first slot held": f"{found.first_held:,}",
        "chain hash": found.chain_hash,
        "state root": found.state_root,
        "stable checkpoint": "none" if found.stable_seq is None else f"{found.stable_seq:,}",
        "bytes on disk": f"{found.disk_bytes:,}",
    }
    if found.diverged_at is not None:
        rows["DIVERGED at slot"] = f"{found.diverged_at:,}"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _columns(found: Inspection) -> Table:
    table = Table("column", title="Columns")
    table.add_column("entries", justify="right")
    table.add_column("bytes, uncompressed", justify="right")
    for column in found.columns:
        table.add_row(column.name, f"{column.entries:,}", f"{column.bytes:,}")
    return table


def _snapshots(found: Inspection) -> Table:
    table = Table("slot", "state root", "pairs", "bytes", title="Snapshots")
    for snapshot in found.snapshots:
        table.add_row(
            f"{snapshot.seq:,}", snapshot.state_root, f"{snapshot.pairs:,}", f"{snapshot.bytes:,}"
        )
    return table


@contextmanager
def _progress() -> Iterator[Report]:
    """Show what is being done on stderr, one line a stage; nothing where that is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Terminal(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage)
            shown.update(tasks[stage], completed=done, total=total or None)

        yield report


def _print_json(value: dict[str, Any]) -> None:
    say_json(value)
