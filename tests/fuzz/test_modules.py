"""Damaged modules are refused or evaluated, always alike; more of them by `tests.fuzz.modules`."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from protocol.codec import sha256
from runtime.artifact import build
from runtime.engine import engine_id, new_engine
from runtime.errors import AdmissionError
from runtime.outcome import Outcome
from runtime.sandbox import Sandbox
from tests.fuzz import modules
from tests.fuzz.modules_judge import FindingError, Judge, mutant, seeds
from tests.fuzz.modules_mutation import STEPS, Step, join, leb, mutate, read_leb, split
from tests.runtime.compilers import new_compiler

SEED = 20
MUTANTS = 2_000
COMPILED = 24
GROWTH_KIB = 16 * 1024
DIES = """
import os, signal, sys
words = dict(zip(sys.argv[1:-1:2], sys.argv[2::2]))
start, bad = int(words["--from"]), "3" not in sys.argv[sys.argv.index("--skip"):]
if bad:
    open(words["--place"], "wb").write((3).to_bytes(8, "big"))
    os.kill(os.getpid(), signal.SIGSEGV)
print('{"start":0,"mutants":9,"refused":{},"classes":{"ok":9},"slowest_s":0,"slowest":1,'
      '"digest":"","rss_kib":5,"findings":{}}')
"""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as made:
        yield made


def test_the_modules_are_valid_before_they_are_damaged(judge: Judge) -> None:
    for seed in seeds():
        end = judge.judge(seed, seed.module)
        assert (end.rule, end.outcome.valid) == ("", True)
        assert join(split(seed.module)) == seed.module


def test_mutants_are_refused_or_evaluated_the_same_twice(judge: Judge) -> None:
    with mmap.mmap(-1, 8) as here:
        first = modules.judge_block(judge, SEED, range(200), set(), here)
        again = modules.judge_block(judge, SEED, range(200), set(), here)
        rest = modules.judge_block(judge, SEED, range(200, MUTANTS), set(), here)
        assert int.from_bytes(here[:8], "big") == MUTANTS - 1
    assert first.findings == again.findings == rest.findings == {}
    assert (first.digest, first.refused) == (again.digest, again.refused)
    assert first.mutants + rest.mutants == MUTANTS
    # they get everywhere: many rules, the engine's validator, and into evaluations
    assert len(rest.refused) > 15
    assert rest.refused["engine"] > MUTANTS // 10
    assert sum(rest.classes.values()) > MUTANTS // 10
    assert {"ok", "bad_output", "trap"} <= set(rest.classes)
    assert rest.rss_kib - first.rss_kib < GROWTH_KIB


@pytest.mark.trio
async def test_the_compiling_child_makes_the_same_of_a_mutant(tmp_path: Path) -> None:
    chosen = [mutant(SEED, number)[1] for number in range(COMPILED)]
    bodies = {sha256(code): code for code in chosen}
    compiler = new_compiler(tmp_path, bodies.get)
    engine = new_engine(compiles_only=True)
    refused = 0
    for module_hash, code in bodies.items():
        artifact = await compiler.artifact(module_hash)
        assert artifact == build(engine, engine_id(), code)
        refused += artifact.refusal is not None
    assert 0 < refused < len(bodies)
    assert compiler.faults.total() == 0


class TestTheJudge:
    """What the tests above rely on."""

    def test_ends_that_differ_are_found(
        self, judge: Judge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evaluate = Sandbox.evaluate
        fuel = iter(range(2))

        def burning(sandbox: Sandbox, job: object) -> Outcome:
            outcome = evaluate(sandbox, job)  # type: ignore[arg-type]
            return msgspec.structs.replace(outcome, fuel_used=next(fuel))

        monkeypatch.setattr(Sandbox, "evaluate", burning)
        with pytest.raises(FindingError, match="two runs, two ends"):
            judge.judge(seeds()[-1], seeds()[-1].module)

    def test_an_undocumented_exception_and_a_false_refusal_are_found(
        self, judge: Judge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise AdmissionError("locals", 3, 2)

        monkeypatch.setattr("tests.fuzz.modules_judge.admit", refuse)
        with pytest.raises(FindingError, match="refused by locals, yet it came to ok"):
            judge.judge(seeds()[-1], seeds()[-1].module)
        monkeypatch.setattr("tests.fuzz.modules_judge.admit", lambda *_: 1 / 0)
        with pytest.raises(FindingError, match="ZeroDivisionError"):
            judge.judge(seeds()[-1], seeds()[-1].module)

    def test_a_dying_process_names_the_mutant_and_another_goes_on(self, tmp_path: Path) -> None:
        script = tmp_path / "dies.py"
        script.write_text(DIES)
        (report,) = modules.reports(SEED, 10, (str(script),))
        assert report.findings == {3: "the process ended with -11"}
        assert report.classes == {"ok": 9}

    def test_a_process_that_never_begins_is_no_finding(self, tmp_path: Path) -> None:
        script = tmp_path / "ends.py"
        script.write_text("import sys; sys.exit(7)")
        with pytest.raises(SystemExit, match="ends with 7 at once"):
            list(modules.reports(SEED, 10, (str(script),)))

    def test_memory_that_grows_is_told(self) -> None:
        flat = [1_000, 900, *[500, 510] * 20]
        assert abs(modules.slope_kib(flat)) < 5
        assert modules.slope_kib([500 + 25 * n for n in range(40)]) == pytest.approx(100)


@pytest.mark.parametrize("step", [step for step, _ in STEPS], ids=lambda step: step.__name__)
def test_a_step_changes_something_and_takes_any_bytes(step: Step) -> None:
    code = seeds()[-1].module
    others = [seed.module for seed in seeds()]
    made = {step(code, others, Random(number)) for number in range(30)}
    assert len(made) > 5
    assert made != {code}
    for data in (b"", code[:8], code[:11], bytes(40), code[:-5], b"\xff" * 30):
        for number in range(20):
            assert isinstance(step(data, others, Random(number)), bytes)


def test_a_mutant_is_a_function_of_seed_and_number() -> None:
    assert mutant(1, 5) == mutant(1, 5)
    assert len({mutant(1, number)[1] for number in range(50)}) > 45
    others = [seed.module for seed in seeds()]
    assert mutate(others[0], others, Random(3)) == mutate(others[0], others, Random(3))


def test_numbers_are_written_and_read() -> None:
    for value in (0, 1, 127, 128, 2**32, 2**63):
        for width in (0, 3, 11):
            written = leb(value, width)
            assert len(written) >= width
            assert read_leb(written + b"\x05", 0) == (value, len(written))


def test_a_finding_is_kept_and_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(modules, "FOLDER", tmp_path)
    report = modules.Report(0, 1, {"locals": 1}, {}, 0.1, 0, bytes(32), 5, {4: "a fault"})
    monkeypatch.setattr(modules, "reports", lambda *_, **__: iter([report]))
    assert modules.run(SEED, 2) == 1
    assert (tmp_path / f"{SEED}-4.wasm").read_bytes() == mutant(SEED, 4)[1]
    told = capsys.readouterr().out
    assert f"FINDING mutant 4 of {mutant(SEED, 4)[0].name}: a fault" in told
    assert "refused 1: locals 1" in told
    clean = msgspec.structs.replace(report, findings={})
    monkeypatch.setattr(modules, "reports", lambda *_, **__: iter([clean]))
    assert modules.run(SEED, 2) == 0
    monkeypatch.setattr(sys, "argv", ["x", "--replay", str(tmp_path / f"{SEED}-4.wasm")])
    assert modules.main() == 0
    assert capsys.readouterr().out.count("as ") == len(seeds())
