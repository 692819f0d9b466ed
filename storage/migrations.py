"""Bringing an older database up to the schema of this node.

Rules:
1. `SCHEMA_VERSION` is raised with every change of what is stored under which key, and `MIGRATIONS`
   gains the function that leads from the version before.
2. A migration works in bounded batches. Each is written, synced, together with the cursor it has
   come to, so that a crash at any point is followed by going on from there.
3. While it runs the schema reads `1>2`: an older node, which would write rows that the cursor has
   passed, refuses the folder from the first batch on.
4. A database that is newer than the node is refused untouched: there is no way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

import msgspec
import structlog

from storage.columns import Column, Meta
from storage.errors import SchemaError
from storage.write_batch import Pair, WriteBatch

SCHEMA_VERSION = 2
"""Raised with every change of what is stored under which key."""

_ROWS_A_BATCH = 1024

log = structlog.get_logger(__name__)


class Migrated(Protocol):
    """What a migration needs of the database."""

    def get(self, column: Column, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""

    def iterate(self, column: Column, prefix: bytes = b"", *, start: bytes = b"") -> Iterator[Pair]:
        """Return the pairs under `prefix` from the key `start` on."""

    def write(self, batch: WriteBatch) -> None:
        """Write `batch`, synced."""


Migration = Callable[[Migrated, bytes, WriteBatch], bytes | None]
"""Takes the cursor (empty at the beginning), fills the batch and returns where to go on from, or
None when nothing is left to do."""


def migrate(database: Migrated, found: bytes, path: str) -> None:
    """Bring a database whose schema key reads `found` to `SCHEMA_VERSION`.

    `path` is for messages. Raises `SchemaError` for a newer or unreadable version.
    """
    version, moving = _parse(found, path)
    while version < SCHEMA_VERSION:
        log.info("database migration", path=path, schema=version, to=version + 1, resumed=moving)
        _migrate_once(database, version, moving)
        log.info("database migrated", path=path, schema=version + 1)
        version, moving = version + 1, False


def _migrate_once(database: Migrated, version: int, moving: bool) -> None:
    cursor: bytes | None = b""
    if moving:
        cursor = database.get(Column.META, Meta.MIGRATION) or b""
    else:
        batch = WriteBatch()
        batch.put(Column.META, Meta.SCHEMA, f"{version}>{version + 1}".encode())
        database.write(batch)
    while cursor is not None:
        batch = WriteBatch()
        cursor = MIGRATIONS[version](database, cursor, batch)
        if cursor is None:
            batch.put(Column.META, Meta.SCHEMA, str(version + 1).encode())
            batch.delete(Column.META, Meta.MIGRATION)
        else:
            batch.put(Column.META, Meta.MIGRATION, cursor)
        database.write(batch)


def _parse(found: bytes, path: str) -> tuple[int, bool]:
    """Return the version that was reached, and whether a migration from it was begun."""
    words = found.decode(errors="replace").split(">")
    if not all(word.isdecimal() for word in words) or len(words) > 2 or not int(words[0]):
        raise SchemaError(f"database {path}: unreadable schema version {found!r}")
    if int(words[-1]) > SCHEMA_VERSION:
        raise SchemaError(
            f"database {path}: schema {'>'.join(words)}, this node reads schema {SCHEMA_VERSION}; "
            f"a newer node wrote it: install that version, or move the folder away and sync again"
        )
    return int(words[0]), len(words) == 2


# --- 1 > 2: ages of bodies and proofs, the first slot held ---------------------------------------


def _add_ages(database: Migrated, cursor: bytes, batch: WriteBatch) -> bytes | None:
    """Index every proof by the slot it was taken at, every body as if it had come at the tip."""
    if not cursor:
        batch.put(Column.META, Meta.FIRST, _first_slot(database))
        return b"p"
    kind, last = cursor[:1], cursor[1:]
    column = {b"p": Column.PROOFS, b"b": Column.BLOBS}[kind]
    tip = _tip(database).to_bytes(8)
    rows = list(islice(database.iterate(column, start=last), _ROWS_A_BATCH))
    for key, value in rows:
        slot = _first_field(value).to_bytes(8) if kind == b"p" else tip
        batch.put(Column.AGES, kind + b"<" + slot + key, b"")
        batch.put(Column.AGES, kind + b"=" + key, slot)
    if len(rows) == _ROWS_A_BATCH:
        return kind + rows[-1][0] + b"\0"
    return b"b" if kind == b"p" else None


def _first_slot(database: Migrated) -> bytes:
    held = next(database.iterate(Column.LEDGER), None)
    return held[0] if held is not None else (_tip(database) + 1).to_bytes(8)


def _tip(database: Migrated) -> int:
    raw = database.get(Column.META, Meta.TIP)
    return 0 if raw is None else _first_field(raw)


def _first_field(record: bytes) -> int:
    """Return the leading sequence number of a record: a proof's, the tip's."""
    fields = msgspec.msgpack.decode(record)
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], int):
        raise SchemaError("database: a record that should begin with a slot number does not")
    return fields[0]


MIGRATIONS: dict[int, Migration] = {1: _add_ages}
"""From the version before to the function that leads to the next one."""
