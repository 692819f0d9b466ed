"""`python -m tests.mutation [MODULE ...]`: break each bound of a module, see whether a test dies.

A module is a file, such as registry/election.py; without one, those of `MODULES`. Prints what
survives and is not explained, and how many there were. Exit code 0 if every mutant was killed or is
explained, 1 if not, 2 if the tests could not be run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.mutation import runner
from tests.mutation.changes import Mutant, mutants_of
from tests.mutation.runner import Job
from tests.mutation.subjects import MODULES, tests_of

EXPLAINED = Path(__file__).parent / "explained.json"
"""key of a mutant -> why no test can tell it from the product."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--list", action="store_true", help="name the mutants, run none")
    parser.add_argument("--limit", type=int, help="run the first so many of each module only")
    parser.add_argument("--only", default="", help="run those whose name contains this")
    parser.add_argument("--tests", action="append", help="test files, instead of the module's own")
    parser.add_argument("--explained", type=Path, default=EXPLAINED)
    options = parser.parse_args(arguments)
    explained = json.loads(options.explained.read_text())
    jobs = []
    for path in options.modules or MODULES:
        mutants = [
            one for one in mutants_of(path, Path(path).read_text()) if options.only in str(one)
        ]
        jobs.append(Job(path, options.tests or tests_of(path), mutants[: options.limit]))
    if options.list:
        for mutant in (mutant for job in jobs for mutant in job.mutants):
            _say(f"{mutant}{'  (explained)' if mutant.key in explained else ''}")
        return 0
    return _run(jobs, explained)


def _run(jobs: list[Job], explained: dict[str, str]) -> int:
    began = time.monotonic()

    def told(mutant: Mutant, end: str) -> None:
        if end == runner.SURVIVED and mutant.key not in explained:
            _say(f"survives: {mutant}")
        elif end != runner.SURVIVED and mutant.key in explained:
            _say(f"dies, though it is explained: {mutant}")

    try:
        runner.run(jobs, told)
    except RuntimeError as error:
        _say(str(error))
        return 2
    failures = [job for job in jobs if job.failure]
    for job in jobs:
        _say(f"{job.path}: {job.failure or _figures(job, explained)}")
    _say(f"{time.monotonic() - began:.0f} s")
    if failures:
        return 2
    return 1 if any(_unexplained(job, explained) for job in jobs) else 0


def _unexplained(job: Job, explained: dict[str, str]) -> list[Mutant]:
    ends = job.ends.items()
    return [one for one, end in ends if end == runner.SURVIVED and one.key not in explained]


def _figures(job: Job, explained: dict[str, str]) -> str:
    ends = list(job.ends.values())
    lived, open_ = ends.count(runner.SURVIVED), len(_unexplained(job, explained))
    return (
        f"{len(ends)} mutants, {ends.count(runner.KILLED)} killed, "
        f"{ends.count(runner.TIMED_OUT)} timed out, {lived - open_} explained, {open_} survive"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
