"""2,000 hostile networks, every one of them from the first seeds; none is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.liveness import ENOUGH_MESSAGES, ENOUGH_SLOTS
from tests.simulation.minimise import report
from tests.simulation.mutants import MUTANTS
from tests.simulation.network import Network
from tests.simulation.plan import HABITS, draw, is_tolerable
from tests.simulation.reference import effective
from tests.simulation.swarm import Distribution, run_seed, run_seeds

CHUNKS, CHUNK = 8, 250


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_network_of_the_swarm_keeps_every_invariant(chunk: int, capsys) -> None:
    found = Distribution()
    for outcome in run_seeds(range(chunk * CHUNK, (chunk + 1) * CHUNK), os.cpu_count() or 1):
        found.add(outcome)
    with capsys.disabled():
        sys.stdout.write(f"\nseeds from {chunk * CHUNK}: {found.show()}\n")
    if found.failed:
        first = found.failed[0]
        pytest.fail(
            "\n".join([*(o.detail for o in found.failed), report(draw(first.seed), first.rule)])
        )
    assert found.runs == CHUNK
    assert all(
        slots >= ENOUGH_SLOTS or messages >= ENOUGH_MESSAGES
        for slots, messages in zip(found.slots, found.messages, strict=True)
    )
    assert 3 * found.changed_view >= found.runs
    assert 10 * found.crossed_epoch >= found.runs
    assert set(HABITS) <= set(found.faults)


def test_every_plan_keeps_byzantine_weight_below_a_third() -> None:
    for seed in range(CHUNKS * CHUNK):
        plan = draw(seed)
        assert is_tolerable(plan.sets, plan.byzantine)
        assert all(4 <= len(members) <= 10 for members in plan.sets)
        assert plan.byzantine or not plan.habits


def test_the_stake_cap_takes_effect_in_some_plans() -> None:
    sets = [members for seed in range(200) for members in draw(seed).sets]
    weights = [tuple(weight for _, weight in members) for members in sets]
    assert any(effective(drawn) != drawn for drawn in weights)


def test_a_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    seeds = [0, 1, 4, 22, 46]
    hashes = []
    for hash_seed in ("1", "4242"):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--hash", *map(str, seeds)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.append(ran.stdout)
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0].split())) == 2 * len(seeds)


def test_keeping_the_trace_changes_nothing() -> None:
    for seed in range(5):
        silent, kept = run_seed(seed), Network(draw(seed), keep_trace=True).run()
        assert (silent.messages, silent.slots) == (kept.messages, kept.slots)


def test_a_failure_is_told_as_a_small_run() -> None:
    mutant = MUTANTS["primary counted twice"]
    with mutant.applied():
        seed = next(seed for seed in range(20) if run_seed(seed).rule == "certificate")
        text = report(draw(seed), "certificate")
    lines = text.splitlines()
    assert lines[0].startswith(f"seed {seed}: certificate")
    assert len(lines) < 130
    assert lines[-1].split()[1:3] == ["net", "certificate:"]
    assert not run_seed(seed).rule, "without the mutant the seed passes"
