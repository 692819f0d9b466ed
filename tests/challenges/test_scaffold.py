"""A new challenge builds and passes at once, in each language, to the same answers."""

import hashlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.build import compile_project, write
from challenges.compile_as import node_problem
from challenges.errors import BuildError, MistakeError
from challenges.project import Language, Project, load_project
from challenges.runner import Runner
from challenges.scaffold import new_project
from challenges.vectors import NOWHERE
from tests.challenges.harness import Guest, check_output

NODE = pytest.mark.skipif(node_problem() is not None, reason=str(node_problem()))
LANGUAGES = ["c", pytest.param("assemblyscript", marks=NODE)]
PINS = {
    "c": "b6a144acbc0831756a11fee13a4bc3ebd274789f32e06d2f009947447b0ab099",
    "assemblyscript": "8019c1a5486247c5f0918dcbe1f8f4ce8973609a6e708706b8ab15ade90a4d44",
}
"""What the untouched scaffolds compile to on every machine."""


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> dict[str, Project]:
    """Built scaffolds by language, made when first asked for."""

    class Made(dict[str, Project]):
        def __missing__(self, language: Language) -> Project:
            project = new_project(tmp_path_factory.mktemp("scaffold"), "guess", language)
            self[language] = write(project, compile_project(project, anew=True))
            return self[language]

    return Made()


@pytest.fixture(scope="module")
def script_guest(projects) -> Guest:
    return Guest(projects["assemblyscript"].module())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_scaffold_builds_the_same_module_everywhere(projects, language):
    project = projects[language]
    assert project.build.module_sha256 == PINS[language]
    assert hashlib.sha256(project.module()).hexdigest() == PINS[language]
    assert load_project(project.folder) == project
    assert project.build.toolchain.startswith({"c": "ziglang "}.get(language, language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_scaffold_passes_its_vectors(projects, language):
    with Runner(projects[language]) as runner:
        results = list(runner.run_vectors(runner.vectors().vectors))
    assert len(results) == 6
    assert [result.differences for result in results] == [()] * 6
    assert {result.outcome.valid for result in results} == {True, False}
    assert not any("@" in path.read_text() for path in projects[language].folder.glob("*.toml"))


@NODE
def test_both_languages_give_the_same_bytes(projects):
    with Runner(projects["c"]) as one, Runner(projects["assemblyscript"]) as other:
        for body in (b"0", b"700", b"999999999", b"\xff", b"70 ", b"1" * 9, b"1" * 1024):
            outputs = {
                runner.evaluate(runner.job(body, bytes(32), NOWHERE, "x")).output
                for runner in (one, other)
            }
            assert len(outputs) == 1


@NODE
@settings(max_examples=100, database=None)
@given(data=st.binary(max_size=60))
def test_no_input_makes_the_assemblyscript_helper_trap(script_guest, data):
    output = check_output(script_guest.run(data).raw)
    assert output["message"].startswith("input byte ")


@NODE
@settings(max_examples=100, database=None)
@given(
    at=st.integers(0, 250),
    cut=st.integers(0, 3),
    put=st.binary(max_size=4),
)
def test_no_damaged_input_makes_the_assemblyscript_helper_trap(script_guest, at, cut, put):
    whole = msgpack.packb(
        {
            "submission": b"700",
            "miner": bytes(32),
            "challenge": {"id": "guess", "version": 1, "params": {"target": 700, "range": 1000}},
            "context": {"epoch": 1, "height": 2**40, "time_ms": 3, "seed": bytes(32)},
        }
    )
    at %= len(whole)
    check_output(script_guest.run(whole[:at] + put + whole[at + cut :]).raw)


@pytest.mark.parametrize("name", ["", "Guess", "1st", "a-b", "a/b", "..", "a" * 65, "é"])
def test_names(tmp_path, name):
    with pytest.raises(MistakeError, match="expected a lower-case letter"):
        new_project(tmp_path, name, "c")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "guess").mkdir()
    with pytest.raises(MistakeError, match="something there already"):
        new_project(tmp_path, "guess", "c")
    assert not list((tmp_path / "guess").iterdir())


def test_a_missing_evaluate_in_c_is_one_line(tmp_path):
    project = new_project(tmp_path, "guess", "c")
    source = project.sources()[0]
    source.write_text(
        source.read_text().replace("(evaluate) int64_t evaluate", "(score) int64_t score")
    )
    with pytest.raises(BuildError, match=r"source: found no function evaluate; .* Define `PG_EX"):
        compile_project(project)


def test_a_header_beside_the_source_is_found(tmp_path, projects):
    project = new_project(tmp_path, "guess", "c")
    source = project.sources()[0]
    text = source.read_text().replace("#define MAX_DIGITS 9u", '#include "limits_of_mine.h"\n')
    source.write_text(text)
    (source.parent / "limits_of_mine.h").write_text("#define MAX_DIGITS 9u\n")
    assert compile_project(project).sha256 == PINS["c"]
