"""Every rule-breaking variant dies under the swarm's own seeds; the engine itself lives.

The table of known kills (`mutants/kills.json`) only says where in the stream of seeds to begin.
`python -m tests.simulation.mutants` searches from seed 0 and writes it anew.
"""

from __future__ import annotations

import sys

import pytest

from tests.simulation.mutants import MUTANTS, known_kills
from tests.simulation.swarm import run_seed

PATIENCE = 40
"""Seeds from the recorded one on within which the mutant must die."""
LIMIT = 20_000


def test_the_table_names_every_mutant() -> None:
    kills = known_kills()
    assert set(kills) == set(MUTANTS)
    assert all(0 <= seed < LIMIT for seed, _ in kills.values())


@pytest.mark.parametrize("name", MUTANTS)
def test_the_swarm_kills(name: str, capsys) -> None:
    first, _ = known_kills()[name]
    with MUTANTS[name].applied():
        for seed in range(first, first + PATIENCE):
            outcome = run_seed(seed)
            if outcome.rule:
                break
        else:
            pytest.fail(f"{name} survives {PATIENCE} seeds from {first}: search again")
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: dies at seed {seed}, {outcome.detail}\n")
    for survived in range(first, seed + 1):
        assert not run_seed(survived).rule, "the engine itself fails there"
