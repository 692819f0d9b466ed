"""Run as a process: write to a database until the disk is full, then try to go on."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from storage.database import Column, Database, WriteBatch
from storage.errors import DatabaseError

LIMIT_BYTES = 300_000
"""No file grows beyond this: the process' own limit stands for a full disk."""
VALUE_BYTES = 7_000


def attempt(database: Database, number: int) -> str:
    """Write one value; return why that failed, or an empty text."""
    batch = WriteBatch()
    batch.put(Column.LOCAL, number.to_bytes(4, "big"), bytes(VALUE_BYTES))
    try:
        database.write(batch)
    except DatabaseError as error:
        return str(error)
    return ""


def main() -> None:
    """Print how many values were written, and what the first and the next failure said."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with Database.open(Path(sys.argv[1]), create=True) as database:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
        written, first = 0, ""
        while not (first := attempt(database, written)):
            written += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # there is room again
        sys.stdout.write("\n".join((str(written), first, attempt(database, written))) + "\n")


if __name__ == "__main__":
    main()
