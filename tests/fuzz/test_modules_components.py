"""Damaged components are refused or evaluated, always alike, also by the compiling child."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from protocol.codec import sha256
from runtime.component_admission import check_component_policy, summarise_component
from runtime.component_artifact import build_component
from runtime.component_rules import HEADER
from runtime.component_sandbox import ComponentSandbox
from runtime.engine import engine_id, new_component_engine
from runtime.errors import AdmissionError
from tests.fuzz import modules
from tests.fuzz.modules_components import (
    ComponentJudge,
    core_modules,
    mutant,
    mutate,
    seeds,
)
from tests.fuzz.modules_judge import FindingError, Seed
from tests.runtime.compilers import new_compiler

SEED = 20
MUTANTS = 600
COMPILED = 12
SEARCHED = 400


@pytest.fixture(scope="module")
def judge() -> Iterator[ComponentJudge]:
    with ComponentJudge() as made:
        yield made


def admitted(count: int) -> list[tuple[Seed, bytes]]:
    """The first mutants that the rules admit."""
    found: list[tuple[Seed, bytes]] = []
    for number in range(SEARCHED):
        origin, code = mutant(SEED, number)
        try:
            check_component_policy(summarise_component(code), origin.job.policy)
        except AdmissionError:
            continue
        found.append((origin, code))
    assert len(found) >= count
    return found[:count]


def test_the_components_are_valid_before_they_are_damaged(judge: ComponentJudge) -> None:
    for seed in seeds():
        end = judge.judge(seed, seed.module)
        assert (end.rule, end.outcome.valid) == ("", True)
    assert [len(core_modules(seed.module)) for seed in seeds()] == [1, 1, 2]


def test_mutants_are_refused_or_evaluated_the_same_twice(judge: ComponentJudge) -> None:
    with mmap.mmap(-1, 8) as here:
        kind = modules.COMPONENTS
        first = modules.judge_block(judge, SEED, range(100), set(), here, kind)
        again = modules.judge_block(judge, SEED, range(100), set(), here, kind)
        rest = modules.judge_block(judge, SEED, range(100, MUTANTS), set(), here, kind)
    assert first.findings == again.findings == rest.findings == {}
    assert (first.digest, first.refused) == (again.digest, again.refused)
    assert first.mutants + rest.mutants == MUTANTS
    assert len(rest.refused) > 12
    assert sum(rest.classes.values()) > MUTANTS // 15
    assert {"ok", "bad_output", "trap"} <= set(rest.classes)


@pytest.mark.trio
async def test_the_compiling_child_makes_the_same_of_admitted_ones(tmp_path: Path) -> None:
    chosen = admitted(COMPILED)
    bodies = {sha256(code): code for _, code in chosen}
    compiler = new_compiler(tmp_path, bodies.get)
    engine = new_component_engine()
    sandboxes = [ComponentSandbox(engine_id()) for _ in range(2)]
    for origin, code in chosen:
        made = await compiler.artifact(sha256(code))
        here = build_component(engine, engine_id(), code)
        assert (made.refusal, made.component) == (here.refusal, here.component)
        job = msgspec.structs.replace(origin.job, module_hash=made.module_hash)
        outcomes = []
        for sandbox, artifact in zip(sandboxes, (made, here), strict=True):
            sandbox.load_artifact(artifact)
            outcomes.append(sandbox.evaluate(job))
        assert outcomes[0] == outcomes[1]
    for sandbox in sandboxes:
        sandbox.close()
    assert compiler.faults.total() == 0


def test_a_false_refusal_is_found(judge: ComponentJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AdmissionError("locals", 3, 2)

    monkeypatch.setattr("tests.fuzz.modules_components.summarise_component", refuse)
    with pytest.raises(FindingError, match="refused by locals, yet it came to ok"):
        judge.judge(seeds()[0], seeds()[0].module)


def test_a_mutant_is_a_function_of_seed_and_number() -> None:
    assert mutant(1, 5) == mutant(1, 5)
    made = [mutant(1, number)[1] for number in range(60)]
    assert len(set(made)) > 50
    assert sum(code.startswith(HEADER) for code in made) > 30
    others = [seed.module for seed in seeds()]
    assert mutate(others[2], others, Random(3)) == mutate(others[2], others, Random(3))
