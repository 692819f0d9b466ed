"""Running a challenge's module: what is admitted, what vectors tell, what is measured."""

import re

import pytest

from challenges.advice import outcome_advice
from challenges.build import compile_project, write
from challenges.errors import MistakeError
from challenges.examples import FOLDER, names
from challenges.project import load_project
from challenges.runner import Runner, check_admission, time_worker
from challenges.scaffold import new_project
from challenges.vectors import NOWHERE, Output, Vector, load_vector_file, save_vector_file
from protocol.records.challenge_storage import StorageWrite
from runtime.outcome import OutcomeClass
from runtime.pool import open_pool
from tests.challenges.folders import ALLOC, GOOD, MEMORY, answer, answering, wat_project
from tests.challenges.test_project import ONE_LINE

WIDE_ALLOC = '(func (export "alloc") (param i64) (result i32) i32.const 0)'
CLOCK = '(import "platform" "time_ms" (func (result i64)))'
SHORT_LOG = '(import "platform" "log" (func (param i32)))'
WASI = '(import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))'
EVALUATE = '(func (export "evaluate") (param i32 i32) (result i64) i64.const 0)'
SPINNING = f"""(module {MEMORY} {ALLOC}
    (func (export "evaluate") (param i32 i32) (result i64) (loop br 0) unreachable))"""
TALKING = f"""(module (import "platform" "log" (func $log (param i32 i32))) {MEMORY} {ALLOC}
    (data (i32.const 0) "hello\\84\\a5score\\07\\a5valid\\c3\\a7message\\a0\\a7metrics\\80")
    (func (export "evaluate") (param i32 i32) (result i64)
        (call $log (i32.const 0) (i32.const 5)) (call $log (i32.const 0) (i32.const 2))
        i64.const {(33 << 32) | 5}))"""


INADMISSIBLE = [
    (f"(module {MEMORY} {ALLOC})", "export", "no 'evaluate'", "Export it"),
    (f"(module {ALLOC} {EVALUATE})", "memories", "0", "Define one memory"),
    (
        f"(module {MEMORY} {EVALUATE} {WIDE_ALLOC})",
        "export_type",
        "'alloc' (i64) -> (i32)",
        "exactly this type",
    ),
    (
        f"(module {CLOCK} {MEMORY} {ALLOC} {EVALUATE})",
        "import",
        "platform.time_ms",
        "policy.host_functions",
    ),
    (
        f"(module {WASI} {MEMORY} {ALLOC} {EVALUATE})",
        "import",
        "wasi_snapshot_preview1.random_get",
        "no libc and no WASI",
    ),
    (
        f"(module {SHORT_LOG} {MEMORY} {ALLOC} {EVALUATE})",
        "import_type",
        "log (i32) -> ()",
        "exactly this type",
    ),
    (
        f'(module (memory (export "memory") 5) {ALLOC} {EVALUATE})',
        "memory_pages",
        "5",
        "policy.memory_pages",
    ),
    (
        f'(module (memory (export "memory") 17) {ALLOC} {EVALUATE})',
        "memory_pages",
        "17",
        "many compilers reserve 1 MiB, 16 pages",
    ),
    (
        f"(module {MEMORY} {ALLOC} {EVALUATE} (global v128 (v128.const i64x2 0 0)))",
        "initial_value",
        "0xfd",
        "Build without SIMD",
    ),
    (
        f"(module {MEMORY} {ALLOC} {EVALUATE} (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "initial_value",
        "then 0x41",
        "extended constant expressions",
    ),
    (
        f"(module {MEMORY} {ALLOC} {EVALUATE} (func $go unreachable) (start $go))",
        "start",
        "unreachable",
        "start section",
    ),
]


@pytest.mark.parametrize(("wat", "rule", "found", "advice"), INADMISSIBLE)
def test_an_inadmissible_module_is_one_line(tmp_path, wat, rule, found, advice):
    project = wat_project(tmp_path, wat)
    with pytest.raises(MistakeError) as caught:
        Runner(project)
    error = caught.value
    assert error.where == f"{project.module_path}: {rule}"
    assert found in error.found
    assert advice in error.advice
    assert ONE_LINE.match(str(error))


@pytest.mark.parametrize(
    ("wat", "outcome_class", "advice"),
    [
        (answering(answer(0.5)), "bad_output", "Scores and metrics are integers"),
        (answering(answer(metrics={"a": 0.5})), "bad_output", "Scores and metrics are integers"),
        (answering(answer(1_000_001)), "bad_output", "Return {score, valid"),
        (answering(answer(metrics={"b": 1, "a": 1})), "bad_output", "sorted by name"),
        (answering(b"no map"), "bad_output", "Return {score, valid"),
        (answering(answer(), size=513), "output_limit", "policy.max_output_bytes"),
        (SPINNING, "out_of_fuel", "policy.fuel"),
    ],
)
def test_an_outcome_that_is_not_ok_says_what_to_do(tmp_path, wat, outcome_class, advice):
    project = wat_project(tmp_path, wat)
    vector = Vector(name="a", submission=b"", expected="ok", output=Output(**GOOD_OUTPUT))
    with Runner(project) as runner:
        (result,) = runner.run_vectors((vector,))
        recorded = runner.recorded(vector, result.outcome)
        (again,) = runner.run_vectors((recorded,))
    assert result.outcome.outcome_class == outcome_class
    assert advice in outcome_advice(result.outcome)
    (line,) = result.differences
    assert line.startswith(f"found outcome {outcome_class}")
    assert "expected ok" in line
    assert advice in line
    assert "\n" not in line
    assert (recorded.expected, recorded.output) == (outcome_class, None)
    assert again.differences == ()


GOOD_OUTPUT = {"score": 5, "valid": True, "message": "", "metrics": {}}


def test_each_field_that_differs_is_named(tmp_path):
    wanted = Output(score=6, valid=False, message="", metrics={"a": 1})
    vector = Vector(name="a", submission=b"", expected="ok", output=wanted)
    with Runner(wat_project(tmp_path, GOOD)) as runner:
        (result,) = runner.run_vectors((vector,))
        assert [line.partition(";")[0] for line in result.differences] == [
            "score: found 5",
            "valid: found True",
            "metrics: found {}",
        ]
        assert runner.recorded(vector, result.outcome).output == Output(**GOOD_OUTPUT)


def test_a_refusal_where_a_score_was_expected_is_one_line(tmp_path):
    refusing = answering(answer(0, valid=False, message="the map lacks a field: target"))
    wanted = Output(score=950_000, valid=True, message="off by 50", metrics={"distance": 50})
    vector = Vector(name="a", submission=b"", expected="ok", output=wanted)
    with Runner(wat_project(tmp_path, refusing)) as runner:
        (result,) = runner.run_vectors((vector,))
    (line,) = result.differences
    assert line.startswith(
        "found a refusal, 'the map lacks a field: target'; expected score 950,000"
    )


@pytest.mark.parametrize(("wat", "rule", "found", "advice"), INADMISSIBLE)
def test_an_inadmissible_module_is_not_pinned(tmp_path, wat, rule, found, advice):
    project = wat_project(tmp_path, wat)
    with pytest.raises(MistakeError) as caught:
        check_admission(project, project.module())
    assert caught.value.where == f"{project.module_path}: {rule}"
    assert found in caught.value.found
    assert advice in caught.value.advice


def test_an_admissible_module_passes_and_a_large_one_does_not(tmp_path):
    project = wat_project(tmp_path, GOOD)
    check_admission(project, project.module())
    with pytest.raises(MistakeError, match="module_bytes: found 5,000,000; expected at most 4,194"):
        check_admission(project, project.module().ljust(5_000_000, b"\0"))
    component = b"\0asm\x0d\0\1\0".ljust(40_000_000, b"\0")
    with pytest.raises(MistakeError, match="component_bytes: found 40,000,000; expected at most"):
        check_admission(project, component)


def test_the_browsers_functions_are_named_to_who_writes_assemblyscript(tmp_path):
    wat = f"""(module (import "env" "seed" (func (result f64))) {MEMORY} {ALLOC} {EVALUATE})"""
    project = wat_project(tmp_path, wat)
    text = project.spec_path.read_text().replace('language = "c"', 'language = "assemblyscript"')
    project.spec_path.write_text(text)
    project = load_project(project.folder)
    with pytest.raises(
        MistakeError, match=r"import: found env\.seed; .*Math\.random, Date"
    ) as caught:
        check_admission(project, project.module())
    assert ONE_LINE.match(str(caught.value))


def test_more_vectors_than_validators_run(tmp_path):
    project = wat_project(tmp_path, GOOD)
    file = load_vector_file(project.vectors_path)
    many = [file.vectors[0].model_copy(update={"name": f"number {at}"}) for at in range(1_025)]
    save_vector_file(project.vectors_path, file.model_copy(update={"vectors": tuple(many)}))
    with Runner(project) as runner, pytest.raises(MistakeError, match="found 1,025 vectors"):
        runner.vectors()


@pytest.mark.parametrize("name", names())
def test_the_examples_vectors_match_in_the_sandbox(name):
    with Runner(load_project(FOLDER / name)) as runner:
        results = list(runner.run_vectors(runner.vectors().vectors))
    assert [result.differences for result in results] == [()] * len(results)


def test_vectors_of_another_version(tmp_path):
    project = wat_project(tmp_path, GOOD)
    text = project.vectors_path.read_text()
    project.vectors_path.write_text(text.replace('"version": 1', '"version": 2'))
    with Runner(project) as runner, pytest.raises(MistakeError, match="version 2; expected"):
        runner.vectors()
    project.vectors_path.write_text('{"challenge": "written", "version": 1, "vectors": []}')
    with Runner(project) as runner, pytest.raises(MistakeError, match="no vectors"):
        runner.vectors()


def test_a_submission_the_network_would_refuse(tmp_path):
    with Runner(wat_project(tmp_path, GOOD)) as runner:
        with pytest.raises(MistakeError, match="1,025 bytes; expected at most 1,024") as caught:
            runner.job(bytes(1025), bytes(32), NOWHERE, "PAYLOAD")
        assert ONE_LINE.match(str(caught.value))
        assert runner.job(bytes(1024), bytes(32), NOWHERE, "PAYLOAD").job_id == 1


def test_what_a_module_logs_is_shown(tmp_path):
    with Runner(wat_project(tmp_path, TALKING)) as runner:
        job = runner.job(b"", bytes(32), NOWHERE, "PAYLOAD")
        outcome = runner.evaluate(job)
    assert (outcome.score, outcome.log) == (7, ("hello", "he"))
    assert dict(outcome.host_calls) == {"log": 2}


@pytest.mark.parametrize("name", names())
def test_the_unmetered_host_answers_alike(name):
    with Runner(load_project(FOLDER / name)) as runner:
        vector = runner.vectors().vectors[0]
        job = runner.job(vector.submission, vector.miner, vector.context, vector.name)
        costs = runner.time_unmetered(job, 2)
        assert costs.rounds == 2
        assert 0 < costs.fastest_us <= costs.median_us
        assert runner.time_in_process(job, 2).rounds == 2


async def test_time_worker(tmp_path):
    with Runner(wat_project(tmp_path, GOOD)) as runner:
        job = runner.job(b"", bytes(32), NOWHERE, "PAYLOAD")
        async with open_pool(1, module_source={job.module_hash: runner.module}.get) as pool:
            costs = await time_worker(pool, job, 2)
    assert costs.rounds == 2
    assert costs.fastest_us > 0


STORING = """#include "platform_guest.h"
PG_EXPORT(evaluate) int64_t evaluate(uint32_t ptr, uint32_t len) {
    (void)ptr, (void)len;
    uint8_t word[8];
    int32_t size = pg_host_data_get("word", 4, word, sizeof word);
    if (size < 0 || pg_host_storage_get("last", 4, word, sizeof word) >= 0)
        return 0; /* no data, or a storage that is not empty */
    pg_host_storage_put("last", 4, word, (uint32_t)size);
    pg_text message = {0};
    return pg_accept(size, &message, 0, 0);
}
"""


def test_data_blobs_and_storage_from_c(tmp_path):
    project = new_project(tmp_path, "storing", "c")
    for source in project.sources():
        source.write_text(STORING)
    blob = project.folder / "data" / "blobs" / "word"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"hello")
    spec = project.spec_path.read_text()
    policy = 'data_keys = ["word"]\nstorage_bytes = 16\nhost_functions = '
    names = '["data_get", "storage_get", "storage_put"]'
    spec = re.sub(r"host_functions = \[.*?\]", policy + names, spec)
    project.spec_path.write_text(spec)
    project = load_project(project.folder)
    project = write(project, compile_project(project))
    with Runner(project) as runner:
        outcome = runner.evaluate(runner.job(b"", bytes(32), NOWHERE, "here"))
    assert (outcome.outcome_class, outcome.score) == (OutcomeClass.OK, 5)
    assert outcome.writes == (StorageWrite(key=b"last", value=b"hello"),)


def test_a_missing_data_blob_is_named(tmp_path):
    project = new_project(tmp_path, "storing", "c")
    spec = project.spec_path.read_text()
    keys = 'data_keys = ["a"]\nhost_functions ='
    project.spec_path.write_text(spec.replace("host_functions =", keys))
    with pytest.raises(MistakeError, match=r"data/blobs/a: .*the data blob 'a'"):
        load_project(project.folder).blobs()
