"""The Python half of the author kit: scaffold, sources, cache, and what guest and host exchange."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges import compile_python
from challenges.artifacts import open_cache
from challenges.build import compile_project, main
from challenges.compile_python import SDK, VERSION
from challenges.compile_python import compile_python as build
from challenges.errors import BuildError, MistakeError, ToolMissingError
from challenges.examples import component_names, names
from challenges.kept import MAX_KEPT
from challenges.python_imports import check_imports
from challenges.scaffold import new_project
from runtime.contest import Step, Transcript, read_questions, write_transcript
from runtime.job import guest_input
from runtime.outcome import parse_output
from tests.challenges.test_project import ONE_LINE
from tests.runtime.modules import job_for


def guest_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("platform_guest", SDK / "platform_guest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


GUEST = guest_module()
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=40,
)


@settings(database=None)
@given(table=st.dictionaries(st.text(), VALUES))
def test_the_guests_messagepack_is_everybodys(table: dict[str, object]) -> None:
    data = msgpack.packb(table)
    assert GUEST.pack(table) == data
    assert GUEST.unpack(data) == table


@pytest.mark.parametrize("size", [31, 32, 255, 256, 65_535, 65_536])
def test_long_values(size: int) -> None:
    for value in ("x" * size, b"x" * size, [None] * size, {str(n): n for n in range(size)}):
        data = msgpack.packb({"value": value})
        assert GUEST.pack({"value": value}) == data
        assert GUEST.unpack(data) == {"value": value}


@pytest.mark.parametrize(
    "data", [b"\x90", b"\x80\x80", b"\x81\xa1", b"\x81\xa1x\xc4\x05a", b"\x81\xa1x\xc1"]
)
def test_broken_messagepack_is_an_error(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        GUEST.unpack(data)


def test_the_guest_reads_the_hosts_input() -> None:
    job = job_for(bytes(32))
    read = GUEST.read_input(guest_input(job).decode("latin-1"))
    assert (read.submission, read.miner, read.seed) == (job.submission, job.miner, job.context.seed)
    assert (read.challenge_id, read.version) == (job.challenge_id, job.version)
    assert read.number("rounds") == 3
    with pytest.raises(ValueError, match="parameter 'target': an integer was expected"):
        read.number("target")
    with pytest.raises(ValueError, match="parameter 'rounds': a text was expected"):
        read.text("rounds")


def test_the_host_reads_the_guests_output() -> None:
    wild = GUEST.accept(
        2_000_000, "\ud800" + "\u2603" * 2_000, {"b": 1, "a": -(2**40), "\u00e9": 0}
    )
    output = parse_output(GUEST.write_output(wild).encode("latin-1"))
    assert (output.score, output.valid, len(output.message)) == (1_000_000, True, 1_024)
    assert list(output.metrics) == ["a", "b", "\u00e9"]


def test_questions_and_transcripts_cross_both_ways() -> None:
    asked = read_questions(GUEST.write_questions(["one", "\u2603"], 7).encode())
    assert (asked.fuel, asked.questions) == (7, ["one", "\u2603"])
    told = Transcript(Step("ok", 1, ""), asked.questions, [Step("trap", 2, "")])
    read = GUEST.read_transcript(write_transcript(told).decode())
    assert read.load == GUEST.Step("ok", 1, "")
    assert (read.questions, read.answers) == (asked.questions, [GUEST.Step("trap", 2, "")])
    assert msgspec.json.decode(write_transcript(told))["load"]["fuel"] == 1


def test_the_scaffold_is_complete(tmp_path: Path) -> None:
    project = new_project(tmp_path, "guess", "python")
    assert [path.name for path in project.sources()] == ["challenge.py"]
    assert project.build.language == "python"
    assert project.spec.policy.host_functions == ()
    assert project.spec.policy.memory_pages == 512
    for name in ("vectors.json", "README.md", "source/challenge.py"):
        assert "@" not in (project.folder / name).read_text()


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("other.py", "", r"found no challenge\.py"),
        ("challenge.py", "def evaluate(:", r"challenge\.py:1: invalid syntax"),
        ("challenge.py", "def helper(): ...", "found helper; expected evaluate, or answer, load"),
        ("challenge.py", "x = 1", "found no function"),
    ],
)
def test_a_mistake_in_the_source_is_told_before_building(
    tmp_path: Path, name: str, source: str, message: str
) -> None:
    (tmp_path / name).write_text(source)
    with pytest.raises(BuildError, match=message):
        build([tmp_path / name])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (
            "import json\nimport numpy.linalg as la\n",
            r"challenge\.py:2: found an import of 'numpy'",
        ),
        ("from pandas import read_csv\n", r"challenge\.py:1: found an import of 'pandas'"),
        ("import helper\nimport other\n", r"challenge\.py:2: found an import of 'other'"),
    ],
)
def test_an_import_that_cannot_be_there_is_told_before_building(
    tmp_path: Path, source: str, found: str
) -> None:
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "challenge.py").write_text(f"{source}\n\ndef evaluate(given): ...\n")
    with pytest.raises(MistakeError, match=found) as caught:
        build(tmp_path.glob("*.py"))
    assert ONE_LINE.match(str(caught.value))


def test_imports_that_are_there_or_may_fail(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import compression.zstd\nfrom . import other\n")
    (tmp_path / "challenge.py").write_text(
        "import collections.abc, helper\nfrom platform_guest import accept\n"
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n"
    )
    check_imports(sorted(tmp_path.glob("*.py")), SDK.glob("*.py"))


BUILDER_SAYS = """warning: site-packages directory not found
Traceback (most recent call last):
  File "<string>", line 1, in <module>
AssertionError: Traceback (most recent call last):
  File "/0/platform_entry.py", line 23, in <module>
    import challenge
  File "/0/challenge.py", line 7, in <module>
    import helper
  File "/0/helper.py", line 3, in <module>
    TABLE = {}["x"]
KeyError: 'x'

Caused by:
    KeyError: 'x'

Stack backtrace:
   0: <anyhow::Error>::msg::<alloc::string::String>
"""


def test_of_the_builders_words_the_error_and_its_place_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", BUILDER_SAYS)
    monkeypatch.setattr(compile_python.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compile_python, "tool_problem", lambda: None)
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "challenge.py").write_text("def evaluate(given): ...")
    with pytest.raises(BuildError) as caught:
        build(tmp_path.glob("*.py"))
    assert str(caught.value).startswith(f"{tmp_path}/helper.py:3: KeyError: 'x'. Mend the line")
    assert "\n" not in str(caught.value)


def test_a_missing_builder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compile_python, "VERSION", "0.0.1")
    (tmp_path / "challenge.py").write_text("def evaluate(given): ...")
    with pytest.raises(ToolMissingError, match=r"componentize-py==0\.0\.1"):
        build([tmp_path / "challenge.py"])


def test_what_is_in_the_cache_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built: list[str] = []

    def builder(_files: object, world: str) -> bytes:
        built.append(world)
        return f"component {len(built)}".encode()

    monkeypatch.setattr(compile_python, "_build", builder)
    project = new_project(tmp_path, "guess", "python")
    first = compile_project(project)
    assert (first.module, first.builds, first.toolchain) == (
        b"component 1",
        1,
        f"componentize-py {VERSION}",
    )
    assert compile_project(project) == first
    entry = project.sources()[0]
    for count in range(2, 12):
        entry.write_text(entry.read_text() + "\n")
        assert compile_project(project).module == f"component {count}".encode()
    kept = list((tmp_path / "validator-node" / "components").iterdir())
    assert len(kept) == MAX_KEPT
    assert built == ["single"] * 11


def test_the_artifacts_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(open_cache()) == len(open_cache()) == 0
    folder = tmp_path / "validator-node" / "artifacts"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


def test_python_examples_are_no_part_of_the_default_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert component_names() == ("python_coding",)
    assert not set(component_names()) & set(names())
    with pytest.raises(SystemExit):
        main(["chess"])
    assert "python_coding" in capsys.readouterr().err
