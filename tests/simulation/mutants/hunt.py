"""Running the swarm's seeds on a mutant until one of them kills it."""

from __future__ import annotations

import time

from tests.simulation.mutants import MUTANTS
from tests.simulation.swarm import run_seed


def hunt(task: tuple[str, int, int]):
    """Return (mutant, the first killing seed or None, what broke, seconds)."""
    name, first, limit = task
    began = time.monotonic()
    with MUTANTS[name].applied():
        for seed in range(first, limit):
            outcome = run_seed(seed)
            if outcome.rule:
                return name, seed, outcome.detail, time.monotonic() - began
    return name, None, "", time.monotonic() - began
