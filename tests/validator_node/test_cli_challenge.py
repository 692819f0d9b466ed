"""The `challenge` commands, as an author types them: what they print, and how they end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.challenges.folders import GOOD, answer, answering, wat_project
from validator_node.cli.challenge import app
from validator_node.errors import NodeError


def run(*arguments: str | Path, code: int = 0) -> str:
    found: Result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert found.exit_code == code, found.output
    return str(found.output)


def refused(*arguments: str | Path) -> str:
    """Run a command that ends with an error of one line; return the line."""
    with pytest.raises(NodeError) as caught:
        run(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_from_nothing_to_a_tested_challenge(tmp_path: Path):
    folder = tmp_path / "guess"
    assert "next: validator-node challenge build" in run("new", "guess", "--into", tmp_path)
    assert "found nothing; expected the built module" in refused("test", folder)
    built = run("build", folder)
    digest = re.search(r"sha256 ([0-9a-f]{64}) \(pinned in platform.toml\)", built)
    assert digest
    assert digest[1] in (folder / "platform.toml").read_text()
    assert f"{digest[1]} (unchanged)" in run("build", folder)
    assert "two builds gave the pinned module" in run("build", "--check", folder)
    tested = run("test", folder)
    assert "6 of 6 vectors match" in tested
    assert "16,531" in tested
    source = folder / "source" / "challenge.c"
    text = source.read_text()
    source.write_text(text.replace('"off by "', '"away by "'))
    assert "built from other sources than there are now" in refused("test", folder)
    assert "6 of 6 vectors match" in run("test", "--stale", folder)
    assert "other sources. Run `validator-node challenge build" in run("run", "text:1", folder)
    assert "what the sources compile to. Run" in refused("build", "--check", folder)
    source.write_text("int")
    with pytest.raises(NodeError, match="expected identifier"):
        run("build", folder)
    assert "built from other sources than there are now" in refused("test", folder)
    source.write_text(text.replace('"off by "', '"away by "'))
    assert "(pinned in platform.toml)" in run("build", folder)
    wrong = run("test", folder, code=1)
    assert "a little below: message: found 'away by 50'; expected 'off by 50'. Correct" in wrong
    assert wrong.count("differs") == 3
    assert "validators will expect it" in run("test", "--record", folder)
    assert "6 of 6 vectors match" in run("test", folder)


def test_a_compiler_error_reaches_the_author(tmp_path: Path):
    run("new", "guess", "--into", tmp_path)
    source = tmp_path / "guess" / "source" / "challenge.c"
    source.write_text("int evaluate(void) { return nothing; }\n")
    with pytest.raises(NodeError, match="undeclared identifier 'nothing'") as caught:
        run("build", tmp_path / "guess")
    assert str(caught.value).startswith(f"{source}:1:")
    source.write_text("#include <stdio.h>\n")
    with pytest.raises(NodeError, match=r"There is no libc: include platform_guest\.h"):
        run("build", tmp_path / "guess")


def test_what_no_validator_admits_is_not_pinned(tmp_path: Path):
    run("new", "guess", "--into", tmp_path)
    folder = tmp_path / "guess"
    source = folder / "source" / "challenge.c"
    source.write_text(source.read_text() + "static const char large[5000000] = {1};\n")
    source.write_text(source.read_text() + "PG_EXPORT(x) const char *x(void) { return large; }\n")
    spec = (folder / "platform.toml").read_text()
    assert "module_bytes: found 5,0" in refused("build", folder)
    assert (folder / "platform.toml").read_text() == spec
    assert not (folder / "module.wasm").exists()
    assert "found nothing; expected the built module" in refused("build", "--check", folder)


def test_one_cause_is_told_once(tmp_path: Path):
    run("new", "guess", "--into", tmp_path)
    folder = tmp_path / "guess"
    spec = folder / "platform.toml"
    spec.write_text(spec.read_text().replace("target = 700", "# target = 700"))
    run("build", folder)
    wrong = run("test", folder, code=1)
    told = [line for line in wrong.splitlines() if "found a refusal" in line]
    assert len(told) == 1
    assert "the target itself: found a refusal" in told[0]
    assert "The same in 5 more vectors." in told[0]


def test_run(tmp_path: Path):
    folder = wat_project(tmp_path, GOOD).folder
    payload = tmp_path / "payload"
    payload.write_bytes(b"from a file")
    for words in ("text:x", "hex:00ff", str(payload), "just words", "0.5", "a. b", ""):
        printed = run("run", words, folder)
        assert re.search(r"outcome\s+│ ok", printed)
        assert re.search(r"score\s+│ 5", printed)
        assert re.search(r"host calls\s+│ none", printed)
        assert re.search(r"^verdict [0-9a-f]{64}$", printed, re.M)
    same = [run("run", words, folder) for words in ("from a file", str(payload))]
    assert same[0] == same[1]
    assert run("run", "text:x", folder, "--epoch", "1") != run("run", "text:x", folder)


def test_run_says_what_to_do_about_a_float(tmp_path: Path):
    folder = wat_project(tmp_path, answering(answer(0.5))).folder
    printed = run("run", "text:x", folder)
    assert "bad_output" in printed
    assert "Scores and metrics are integers" in printed


def test_run_refuses_what_the_network_would(tmp_path: Path):
    folder = wat_project(tmp_path, GOOD).folder
    assert "PAYLOAD: found a submission of 1,025 bytes" in refused("run", "x" * 1025, folder)
    line = refused("run", "mistyped.txt", folder)
    assert "no file 'mistyped.txt'; expected a file. Mend the path, or write text:mist" in line
    assert "no file 'some/where'" in refused("run", "some/where", folder)
    assert "PAYLOAD: found 'zz'; expected hex digits" in refused("run", "hex:zz", folder)
    assert "--seed: found '00'; expected 32 bytes" in refused("run", "x", folder, "--seed", "00")
    assert "--miner: found" in refused("run", "x", folder, "--miner", "g" * 64)
    assert "--replay: found no --config" in refused("run", "--replay", "00" * 32)


def test_bench(tmp_path: Path):
    project = wat_project(tmp_path, GOOD)
    printed = run("bench", "--rounds", "3", project.folder)
    for words in (
        "without limits",
        "in process",
        "through a worker",
        "1.00x",
        "3 evaluations",
        "one job",
    ):
        assert words in printed
    assert "the payload: 1 bytes" in run("bench", "--rounds", "1", "--payload", "x", project.folder)


def test_mistakes_are_one_line(tmp_path: Path):
    assert "expected a challenge's spec" in refused("build", tmp_path)
    assert "expected a lower-case letter" in refused("new", "No", "--into", tmp_path)
    folder = wat_project(tmp_path, '(module (memory (export "memory") 1))').folder
    assert "module.wasm: export: found no 'alloc'" in refused("test", folder)
