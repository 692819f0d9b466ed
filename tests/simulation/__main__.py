"""`python -m tests.simulation`: soak the engine in simulated networks (`make soak`)."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.simulation.minimise import report
from tests.simulation.network import Network
from tests.simulation.plan import draw
from tests.simulation.swarm import Distribution, run_seeds

PROGRESS_RUNS = 500


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", metavar="A:B", help="the seeds from A up to, not including, B")
    parser.add_argument("--count", type=int, default=2000, help="so many seeds from 0")
    parser.add_argument("--minutes", type=float, help="go on for so long instead")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hash", type=int, nargs="+", help="print these seeds' trace hashes")
    parser.add_argument("--trace", type=int, metavar="SEED", help="print a seed's whole trace")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.hash or options.trace is not None:
        for seed in options.hash or [options.trace]:
            outcome = Network(draw(seed), keep_trace=True).run()
            say(f"{seed} {outcome.digest}" if options.hash else "\n".join(outcome.trace))
        return 0
    first, last = map(int, options.seeds.split(":")) if options.seeds else (0, options.count)
    is_over = None
    if options.minutes is not None:
        until, last = time.monotonic() + options.minutes * 60, first + 10**9
        is_over = lambda: time.monotonic() >= until  # noqa: E731
    found = Distribution()
    for outcome in run_seeds(range(first, last), options.jobs, is_over):
        found.add(outcome)
        if outcome.rule:
            say(f"seed {outcome.seed} FAILED: {outcome.detail}")
        if found.runs % PROGRESS_RUNS == 0:
            say(f"{found.runs} networks, {len(found.failed)} failed, {sum(found.slots)} slots")
    say(found.show())
    for outcome in found.failed[:3]:
        say("\n" + report(draw(outcome.seed), outcome.rule))
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
