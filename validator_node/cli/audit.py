"""`validator-node audit`: check and read the evaluations' audit log of a stopped node."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from storage.audit_log import AuditEntry, AuditError, read_audit, verify_audit
from storage.database import Database
from validator_node.config import load_config
from validator_node.opening import database_path
from validator_node.terminal import say, say_json, say_table

_SHORT_HEX = 12
_ENDED = Column("ended", no_wrap=True)

app = typer.Typer(no_args_is_help=True, help="Audit log of the evaluations: verify, show.")

ConfigOption = Annotated[Path, typer.Option(help="TOML configuration of the stopped node")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@app.command()
def verify(
    config: ConfigOption,
    head: Annotated[
        str, typer.Option(help="digest in hex that an entry must have: the head you noted earlier")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check the whole chain; exit 1 and name the first entry that does not fit.

    The chain shows what was changed or taken out of its middle. To see that its end was cut off,
    note the head that this prints, and give it to --head the next time.
    """
    with _opened(config) as (database, folder):
        try:
            report = verify_audit(database, folder)
            _check_head(database, folder, head)
        except AuditError as error:
            if as_json:
                say_json({"whole": False, "damage": str(error)}, indent=None)
            else:
                say(f"damaged: {error}", err=True)
            raise typer.Exit(1) from error
    found = {
        "first": report.first,
        "last": report.last,
        "head": report.head.hex(),
        "files": report.files,
    }
    if as_json:
        say_json({"whole": True, **found}, indent=None)
        return
    say(
        f"entries {report.first} to {report.last} are one chain, {report.files} files beside the "
        "database"
    )
    say(f"head {report.head.hex()}")


@app.command()
def show(
    config: ConfigOption,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="entries, from the end")] = 20,
    submission: Annotated[str, typer.Option(help="only submissions whose id begins so")] = "",
    faults: Annotated[bool, typer.Option("--faults", help="only evaluations that failed")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the newest entries, oldest of them first."""
    with _opened(config) as (database, folder):
        wanted = deque(
            (
                entry
                for entry in read_audit(database, folder)
                if entry.event.submission_id.hex().startswith(submission.lower())
                and (entry.event.fault or not faults)
            ),
            maxlen=last,
        )
    if as_json:
        for entry in wanted:
            say_json(_plain(entry), indent=None)
        return
    table = Table("entry", "submission", "module", _ENDED, "fuel", "host calls")
    for entry in wanted:
        event = entry.event
        table.add_row(
            str(entry.position),
            event.submission_id.hex()[:_SHORT_HEX],
            event.module_hash.hex()[:_SHORT_HEX],
            event.outcome_class or f"fault: {event.fault}",
            f"{event.fuel_used:,}",
            ", ".join(f"{name} {count}" for name, count in event.host_calls),
        )
    say_table(table)


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Database, Path]]:
    loaded = load_config(config)
    with Database.look(database_path(loaded.state_dir)) as database:
        yield database, loaded.audit_dir


def _check_head(database: Database, folder: Path, head: str) -> None:
    entries = read_audit(database, folder)
    if head and not any(entry.digest().hex() == head.lower() for entry in entries):
        raise AuditError(f"audit log: no entry has the digest {head}")


def _plain(entry: AuditEntry) -> dict[str, Any]:
    event = entry.event
    return {
        "position": entry.position,
        "time_ms": event.time_ms,
        "job_id": event.job_id,
        "submission_id": event.submission_id.hex(),
        "module_hash": event.module_hash.hex(),
        "policy_hash": event.policy_hash.hex(),
        "outcome_class": event.outcome_class or None,
        "verdict_hash": event.verdict_hash.hex(),
        "fuel_used": event.fuel_used,
        "host_calls": dict(event.host_calls),
        "fault": event.fault or None,
        "digest": entry.digest().hex(),
    }
