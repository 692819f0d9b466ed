"""Components compiled: types looked at, refusals kept, and the compiling process does it, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codec import decode, encode, sha256
from runtime.artifact import MAX_ARTIFACT_BYTES, Artifact
from runtime.component_artifact import build_component
from runtime.component_sandbox import ComponentSandbox
from runtime.engine import engine_id, new_component_engine
from runtime.errors import Fault, FaultReason
from runtime.outcome import OutcomeClass
from runtime.pool import open_pool
from tests.runtime.compilers import new_compiler
from tests.runtime.components import CONTEST, assembled, component
from tests.runtime.modules import job_for

NO_TEXTS = """(component (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f"))) (export "evaluate" (func $f)))"""
ILL_TYPED = component().replace(b"\x41\x10\x0b", b"\x42\x10\x0b")


def built(code: bytes) -> Artifact:
    return build_component(new_component_engine(), engine_id(), code)


@pytest.fixture
def sandbox() -> Iterator[ComponentSandbox]:
    made = ComponentSandbox(engine_id())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        (assembled(NO_TEXTS), "export_type"),
        (ILL_TYPED, "engine"),
        (assembled("(component)"), "export"),
        (component(more='(import "clock" (func))'), "imports"),
    ],
)
def test_a_refusal_is_an_artifact(sandbox: ComponentSandbox, code: bytes, rule: str) -> None:
    artifact = built(code)
    assert (artifact.profile, artifact.code, artifact.component) == ("component", b"", None)
    assert artifact.refusal is not None
    assert artifact.refusal.rule == rule
    sandbox.load_artifact(artifact)
    outcome = sandbox.evaluate(job_for(sha256(code)))
    assert outcome.outcome_class in {OutcomeClass.MISSING_EXPORT, OutcomeClass.INVALID_MODULE}
    assert outcome.fuel_used == 0


def test_an_artifact_travels(sandbox: ComponentSandbox) -> None:
    artifact = built(component())
    again = decode(Artifact, encode(artifact), limit_bytes=MAX_ARTIFACT_BYTES)
    assert again == artifact
    sandbox.load_artifact(again)
    job = job_for(artifact.module_hash)
    assert sandbox.evaluate(job).outcome_class is OutcomeClass.OK


def test_another_engines_artifact_and_damaged_code_are_faults(sandbox: ComponentSandbox) -> None:
    artifact = built(component())
    for name, value, reason in (
        ("engine_id", bytes(32), FaultReason.ENGINE_MISMATCH),
        ("code", b"no code", FaultReason.COMPILE),
    ):
        fields = {field: getattr(artifact, field) for field in artifact.__struct_fields__}
        with pytest.raises(Fault) as caught:
            sandbox.load_artifact(Artifact(**(fields | {name: value})))
        assert caught.value.reason is reason


@pytest.mark.parametrize("with_compiler", [True, False])
async def test_workers_run_components(tmp_path: Path, with_compiler: bool) -> None:
    codes = [component(), component(names=CONTEST), component({"evaluate": "unreachable"})]
    modules = {sha256(code): code for code in codes}
    compiler = new_compiler(tmp_path, modules.get) if with_compiler else None
    async with open_pool(1, module_source=modules.get, compiler=compiler) as pool:
        found = [(await pool.evaluate(job_for(digest))).outcome_class for digest in modules]
    assert found == [OutcomeClass.OK, OutcomeClass.OK, OutcomeClass.TRAP]


def test_the_oldest_components_go(sandbox: ComponentSandbox) -> None:
    hashes = []
    for pages in range(2, 7):
        artifact = built(component(pages=pages))
        sandbox.load_artifact(artifact)
        hashes.append(artifact.module_hash)
    assert [digest in sandbox for digest in hashes] == [False, True, True, True, True]
