"""Damaged components: `python -m tests.fuzz.modules --kind components --mutants 20000`.

Small components, written by hand, are damaged as components, or one core module inside of them is,
and judged like core modules: admission over the bytes, the compiler, an evaluation, all twice.
CPython itself is no seed: it takes 20 CPU-s to compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random

import msgspec

from protocol.codec import sha256
from runtime.component_admission import check_component_policy, summarise_component
from runtime.component_artifact import build_component
from runtime.component_rules import HEADER, MODULE_HEADER
from runtime.component_sandbox import ComponentSandbox
from runtime.engine import engine_id, new_component_engine
from runtime.errors import AdmissionError
from runtime.outcome import Outcome
from tests.fuzz import modules_mutation as mutation
from tests.fuzz.modules_judge import (
    DEADLINE_MS,
    ENGINE_RULE,
    REFUSED,
    FindingError,
    Judge,
    Seed,
)
from tests.runtime.components import CONTEST, component
from tests.runtime.modules import job_for

MODULE_SECTION = 1
TOLD_BY_THE_ENGINE = frozenset({ENGINE_RULE, "imports", "export_type"})
"""Rules that the engine may break a component by which its bytes did not."""
STEPS: tuple[tuple[mutation.Step, int], ...] = (
    (mutation.flip_bytes, 2),
    (mutation.truncate, 1),
    (mutation.shuffle_sections, 4),
    (mutation.change_section, 5),
    (mutation.damage_length, 1),
    (mutation.splice, 1),
    (mutation.other_form, 1),
)
SHIM = '(component $shim (type $t (list string)) (export "t" (type $t)))'
MORE = f'{SHIM} (instance $made (instantiate $shim)) (export "exports" (instance $made))'
SECOND_MODULE = """(core module $n (import "m" "memory" (memory 1)) (import "m" "base" (global i32))
    (table 3 funcref) (elem (i32.const 0) $f $f) (global (mut f64) (f64.const 0.5))
    (func $f (drop (f64.sqrt (global.get 1)))) (data (global.get 0) "placed") (start $f))
    (core instance $other (instantiate $n (with "m" (instance $i))))"""
CORE = """(global (export "base") i32 (i32.const 8192))
    (func $count (param i32) (loop (br_if 0 (i32.gt_u (memory.grow (i32.const 0)) (i32.const 99)))))
    (func (export "boot") (call $count (i32.const 4)))"""


@cache
def seeds() -> tuple[Seed, ...]:
    """Return the components that mutants are made from."""
    codes = {
        "single": component(),
        "contest": component(names=CONTEST),
        "linked": component(more_core=CORE, more=SECOND_MODULE + MORE),
    }
    return tuple(
        Seed(name, code, job_for(sha256(code), deadline_ms=DEADLINE_MS))
        for name, code in codes.items()
    )


def mutant(seed: int, number: int) -> tuple[Seed, bytes]:
    """Return the mutant of this number in the run of this seed, and what it was made from."""
    random = Random(f"components {seed}/{number}")
    chosen = random.choice(seeds())
    return chosen, mutate(chosen.module, [other.module for other in seeds()], random)


def mutate(code: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Return the component with a core module damaged, or one to three things done to itself."""
    if random.random() < 0.6:
        return _other_module(code, others, random)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        step = random.choices([step for step, _ in STEPS], [share for _, share in STEPS])[0]
        # the steps know one header; both are as long
        made = step(_as_module(code), [_as_module(other) for other in others], random)
        code = HEADER + made[len(HEADER) :] if made.startswith(MODULE_HEADER) else made
    return code


def _as_module(code: bytes) -> bytes:
    return MODULE_HEADER + code[len(HEADER) :] if code.startswith(HEADER) else code


def core_modules(code: bytes) -> list[bytes]:
    """Return a component's core modules."""
    return [body for kind, body in mutation.split(code) if kind == MODULE_SECTION]


def _other_module(code: bytes, others: Sequence[bytes], random: Random) -> bytes:
    sections = mutation.split(code)
    places = [at for at, (kind, _) in enumerate(sections) if kind == MODULE_SECTION]
    at = random.choice(places)
    foreign = [body for other in others for body in core_modules(other)]
    sections[at] = (MODULE_SECTION, mutation.mutate(sections[at][1], foreign, random))
    return HEADER + mutation.join(sections)[len(MODULE_HEADER) :]


class ComponentJudge(Judge):
    """Judges damaged components in this process; a context manager."""

    def __init__(self) -> None:
        self._components = ComponentSandbox(engine_id())
        self._engine = new_component_engine()

    def __exit__(self, *_: object) -> None:
        self._components.close()

    def _once(
        self, seed: Seed, module: bytes, *, compile_again: bool = True
    ) -> tuple[str, Outcome]:
        try:
            check_component_policy(summarise_component(module), seed.job.policy)
            rule = ""
        except AdmissionError as error:
            rule = error.rule
        if compile_again:
            self._artifact = build_component(self._engine, engine_id(), module)
            self._components.load_artifact(self._artifact)
        refusal = self._artifact.refusal
        if refusal is not None and refusal.rule not in {rule, *TOLD_BY_THE_ENGINE}:
            raise FindingError(f"the rules say {rule!r}, the artifact {refusal.rule!r}")
        if refusal is None and not self._artifact.code:
            raise FindingError("admitted, and no code")
        if not rule and refusal is not None:
            rule = refusal.rule
        job = msgspec.structs.replace(seed.job, module_hash=self._artifact.module_hash)
        outcome = self._components.evaluate(job)
        if rule and outcome.outcome_class not in REFUSED:
            raise FindingError(f"refused by {rule}, yet it came to {outcome.outcome_class}")
        return rule, outcome
