"""`python -m tests.simulation.mutants`: find the first seed that kills each mutant.

The seeds are those of the swarm, from 0; the table that the tests start from is written anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys

from tests.simulation.mutants import MUTANTS, TABLE, known_kills
from tests.simulation.mutants.hunt import hunt

LIMIT = 20_000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="which ones; all without")
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    table, alive = known_kills(), []
    tasks = [(name, 0, options.limit) for name in options.names or MUTANTS]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name, seed, detail, seconds in pool.imap_unordered(hunt, tasks):
            sys.stdout.write(f"{name:<28} seed {seed} {seconds:5.0f} s  {detail}\n")
            sys.stdout.flush()
            if seed is None:
                alive.append(name)
                continue
            table[name] = [seed, detail.split(":")[0]]
            TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
