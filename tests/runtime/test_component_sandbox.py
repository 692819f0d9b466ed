"""Evaluating components: every outcome class, fuel, faults, and the verdict's layout."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import pytest

from protocol.codec import sha256
from runtime.contest import MAX_ANSWER_BYTES
from runtime.engine import engine_id
from runtime.errors import AdmissionError, Fault, FaultReason
from runtime.evaluator import Evaluator
from runtime.job import guest_input
from runtime.outcome import Outcome, OutcomeClass, verdict_hash
from tests.runtime.components import CONTEST, component
from tests.runtime.modules import POLICY, job_for, module, output

LOOP = "(loop (br 0))"
ENDINGS = [
    ("a good output", component(), OutcomeClass.OK),
    ("an endless loop", component({"evaluate": LOOP}), OutcomeClass.OUT_OF_FUEL),
    ("unreachable", component({"evaluate": "unreachable"}), OutcomeClass.TRAP),
    ("no text", component(texts={"evaluate": b"\xff\xfe"}), OutcomeClass.TRAP),
    ("no bytes", component(texts={"evaluate": "snow \u2603".encode()}), OutcomeClass.BAD_OUTPUT),
    ("nonsense", component(texts={"evaluate": b"nonsense"}), OutcomeClass.BAD_OUTPUT),
    ("513 bytes", component(texts={"evaluate": b"x" * 513}), OutcomeClass.OUTPUT_LIMIT),
    ("10,000 bytes", component(texts={"evaluate": b"x" * 10_000}), OutcomeClass.OUTPUT_LIMIT),
    ("17 pages", component(pages=17), OutcomeClass.MEMORY_LIMIT),
    ("another export", component(names=("validate",)), OutcomeClass.MISSING_EXPORT),
    ("half a contest", component(names=("load", "answer")), OutcomeClass.MISSING_EXPORT),
    ("half a component", component()[:-10], OutcomeClass.INVALID_MODULE),
    (
        "a start that traps",
        component(more_core="(func $boot unreachable) (start $boot)"),
        OutcomeClass.TRAP,
    ),
    (
        "data out of bounds",
        component(more_core='(data (i32.const 131070) "abcdef")'),
        OutcomeClass.TRAP,
    ),
    (
        "elements out of bounds",
        component(more_core="(table 1 funcref) (elem (i32.const 5) $f) (func $f)"),
        OutcomeClass.TRAP,
    ),
    ("a good contest", component(names=CONTEST), OutcomeClass.OK),
    (
        "a trap in the questions",
        component({"questions": "unreachable"}, names=CONTEST),
        OutcomeClass.TRAP,
    ),
    ("a trap in an answer", component({"answer": "unreachable"}, names=CONTEST), OutcomeClass.OK),
    ("a trap in the load", component({"load": "unreachable"}, names=CONTEST), OutcomeClass.OK),
    ("an endless answer", component({"answer": LOOP}, names=CONTEST), OutcomeClass.OK),
    ("an endless score", component({"score": LOOP}, names=CONTEST), OutcomeClass.OUT_OF_FUEL),
    (
        "no questions",
        component(texts={"questions": b'{"fuel":1,"questions":[]}'}, names=CONTEST),
        OutcomeClass.BAD_OUTPUT,
    ),
]


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with Evaluator() as made:
        yield made


def run(evaluator: Evaluator, code: bytes, **changes: object) -> Outcome:
    return evaluator.evaluate(job_for(evaluator.load(code), **changes))


@pytest.mark.parametrize(("code", "expected"), [pytest.param(c, e, id=n) for n, c, e in ENDINGS])
def test_each_ending_has_its_class_twice(
    evaluator: Evaluator, code: bytes, expected: OutcomeClass
) -> None:
    first = run(evaluator, code)
    assert first.outcome_class is expected, first.message
    assert run(evaluator, code) == first
    if expected is not OutcomeClass.OK:
        assert (first.score, first.valid, first.output) == (0, False, b"")


def test_every_class_but_the_host_functions_is_provoked() -> None:
    assert {found for _, _, found in ENDINGS} == set(OutcomeClass) - {OutcomeClass.HOST_LIMIT}


def test_the_verdict_has_the_layout_of_core_modules(evaluator: Evaluator) -> None:
    job = job_for(evaluator.load(component()))
    outcome = evaluator.evaluate(job)
    assert outcome.verdict_hash == verdict_hash(
        engine_id=engine_id(),
        module_hash=job.module_hash,
        input_hash=sha256(guest_input(job)),
        policy_hash=POLICY.digest(),
        outcome_class=OutcomeClass.OK,
        output=output(),
    )
    assert (outcome.score, outcome.valid, outcome.message) == (500_000, True, "ok")
    assert 0 < outcome.fuel_used < 1_000


def test_any_trap_bills_the_whole_fuel(evaluator: Evaluator) -> None:
    assert run(evaluator, component({"evaluate": "unreachable"})).fuel_used == POLICY.fuel


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("unreachable", "wasm `unreachable` instruction executed"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0))) unreachable", "integer divide by zero"),
        ("(drop (i32.load (i32.const -4))) unreachable", "out of bounds memory access"),
        (LOOP, "out of fuel"),
    ],
)
def test_a_trap_names_its_cause(evaluator: Evaluator, body: str, words: str) -> None:
    assert words in run(evaluator, component({"evaluate": body})).message


def test_a_contest_is_billed_for_what_the_submission_burnt(evaluator: Evaluator) -> None:
    quiet = run(evaluator, component(names=CONTEST)).fuel_used
    # the second question is not asked after a bad ending of the first
    endless = run(evaluator, component({"answer": LOOP}, names=CONTEST)).fuel_used
    assert 100_000 < endless < 100_000 + quiet
    both = component({"answer": LOOP, "load": LOOP}, names=CONTEST)
    assert 100_000 < run(evaluator, both).fuel_used < endless


def test_the_submission_runs_in_an_instance_of_its_own(evaluator: Evaluator) -> None:
    # `questions` and `score` trap after `load`, and `answer` without it
    seen = "(i32.load8_u (i32.const 8))"
    bodies = {
        "questions": f"(if {seen} (then unreachable))",
        "load": "(i32.store8 (i32.const 8) (i32.const 1))",
        "answer": f"(if (i32.eqz {seen}) (then unreachable))",
        "score": f"(if {seen} (then unreachable))",
    }
    outcome = run(evaluator, component(bodies, names=CONTEST))
    assert outcome.outcome_class is OutcomeClass.OK
    assert outcome == run(evaluator, component(bodies, names=CONTEST))


def test_an_answer_beyond_the_limit_ends_the_asking(evaluator: Evaluator) -> None:
    long = component(texts={"answer": b"x" * (MAX_ANSWER_BYTES + 1)}, names=CONTEST, pages=4)
    assert run(evaluator, long).outcome_class is OutcomeClass.OK


@pytest.mark.parametrize(
    "bodies", [{"evaluate": LOOP}, {"questions": LOOP}, {"answer": LOOP}, {"score": LOOP}]
)
def test_a_deadline_is_a_fault_in_every_instance(
    evaluator: Evaluator, bodies: dict[str, str]
) -> None:
    names = ("evaluate",) if "evaluate" in bodies else CONTEST
    texts = {"questions": b'{"fuel":9000000000000000000,"questions":["x"]}'}
    endless = msgspec.structs.replace(POLICY, fuel=2**62)
    code = component(bodies, texts, names=names)
    with pytest.raises(Fault) as caught:
        run(evaluator, code, policy=endless, deadline_ms=100)
    assert caught.value.reason is FaultReason.DEADLINE
    assert run(evaluator, component()).outcome_class is OutcomeClass.OK


def test_both_profiles_live_side_by_side(evaluator: Evaluator) -> None:
    core, other = module(), component()
    assert run(evaluator, core).output == run(evaluator, other).output == output()
    assert evaluator.load(core) in evaluator
    assert evaluator.load(other) in evaluator


def test_check_admits_or_names_the_rule(evaluator: Evaluator) -> None:
    assert evaluator.check(component(), POLICY).memory_pages == 2
    refused = {
        "start": component(more_core='(data (i32.const 131070) "abcdef")'),
        "memory_pages": component(pages=17),
        "export": component(names=("validate",)),
        "imports": component(more='(import "clock" (func))'),
    }
    for rule, code in refused.items():
        with pytest.raises(AdmissionError) as caught:
            evaluator.check(code, POLICY)
        assert caught.value.rule == rule


def test_threads_take_turns(evaluator: Evaluator) -> None:
    job = job_for(evaluator.load(component(names=CONTEST)))
    expected = evaluator.evaluate(job)
    found: list[Outcome] = []

    def work() -> None:
        found.extend(evaluator.evaluate(job) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 80


def test_faults_for_what_is_not_the_guests_doing(evaluator: Evaluator) -> None:
    code = evaluator.load(component())
    for changes, reason in (
        ({"module_hash": bytes(32)}, FaultReason.MODULE_MISSING),
        ({"submission": bytes(65_537)}, FaultReason.BAD_JOB),
    ):
        with pytest.raises(Fault) as caught:
            evaluator.evaluate(job_for(**{"module_hash": code, **changes}))
        assert caught.value.reason is reason
