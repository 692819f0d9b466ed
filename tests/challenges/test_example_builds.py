"""Modules are reproducible, small, and import what their spec says; the SDK's wrappers work."""

import hashlib
import re
import tempfile
from pathlib import Path

import msgpack
import pytest
import wasmtime

from challenges.build import compile_project, main
from challenges.compile_c import compile_c, data_header
from challenges.errors import BuildError
from challenges.examples import FOLDER, load, names
from challenges.project import load_project
from tests.challenges.harness import Guest, guest

SDK_USER = """
#include "platform_guest.h"
PG_EXPORT(evaluate) int64_t evaluate(uint32_t ptr, uint32_t len) {
    pg_input input;
    pg_text text = {0};
    uint8_t bytes[32];
    if (!pg_parse_input(&input, ptr, len)) return pg_refuse_input(&input);
    pg_host_log("hello", 5);
    pg_host_random(bytes, 32);
    for (int i = 0; i < 100; i++) pg_say(&text, "long ");
    const pg_metric metrics[] = {
        {"clock", pg_host_time_ms()}, {"height", input.height}, {"random", bytes[31]},
        {"version", input.challenge_version}};
    return pg_accept(input.epoch, &text, metrics, 4);
}
"""


@pytest.mark.parametrize("name", names())
def test_rebuild_equals_the_committed_module(name):
    project = load_project(FOLDER / name)
    built = compile_project(project)
    assert built.sha256 == project.build.module_sha256 == load(name).module_hash.hex()
    assert built.toolchain == project.build.toolchain


def test_the_command_prints_both_hashes(capsys):
    assert main(["series_forecast"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(load("series_forecast").module_hash.hex()) == 2


def test_the_command_refuses_an_unknown_name(capsys):
    with pytest.raises(SystemExit):
        main(["chess"])
    assert "no example is called 'chess'" in capsys.readouterr().err


@pytest.mark.parametrize("name", names())
def test_module_shape(name):
    example = load(name)
    assert example.spec.id == name
    assert len(example.module) <= 64 * 1024
    assert hashlib.sha256(example.module).digest() == example.module_hash
    module = guest(example).module
    imports = [(item.module, item.name) for item in module.imports]
    assert imports == [("platform", function) for function in example.spec.policy.host_functions]
    exports = {item.name for item in module.exports}
    assert exports == {"memory", "alloc", "evaluate", "abi_version"}
    memory = next(item.type for item in module.exports if item.name == "memory")
    assert memory.limits.min <= example.spec.policy.memory_pages
    paths = (Path(__file__).parents[2], Path.home(), Path(tempfile.gettempdir()))
    for word in (*map(str, paths), "clang", "producers", ".debug"):
        assert word.encode() not in example.module


@pytest.mark.parametrize("name", names())
def test_module_needs_no_proposal_that_the_engine_turns_off(name):
    # an engine that cannot be built aborts the process: these may be off together
    off = "relaxed_simd simd threads multi_memory memory64 tail_call gc function_references"
    config = wasmtime.Config()
    for proposal in (*off.split(), "exceptions", "multi_value"):
        setattr(config, f"wasm_{proposal}", False)
    wasmtime.Module.validate(wasmtime.Engine(config), load(name).module)


@pytest.mark.parametrize("name", names())
def test_sources_name_no_floating_type(name):
    for path in (load(name).folder / "source").glob("*.c"):
        assert not re.search(r"\b(float|double)\b", path.read_text())


def test_sdk_wrappers(tmp_path):
    source = tmp_path / "user.c"
    source.write_text(SDK_USER)
    module = Guest(compile_c([source]), time_ms=2**40)
    context = {"epoch": 2**40, "height": -5, "time_ms": 1, "seed": b"s" * 32}
    challenge = {"id": "x", "version": 300, "params": {}}
    whole = {"submission": b"", "miner": b"m" * 32, "challenge": challenge, "context": context}
    result = module.run(msgpack.packb(whole))
    assert result.logs == (b"hello",)
    assert result.output == {
        "score": 1_000_000,
        "valid": True,
        "message": "long " * 40,
        "metrics": {"clock": 2**40, "height": -5, "random": 31, "version": 300},
    }
    context["epoch"] = -7
    assert module.run(msgpack.packb(whole)).output["score"] == 0


@pytest.mark.parametrize(
    "number",
    [
        *(0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1),
        *(-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)),
    ],
)
def test_sdk_integers_both_ways(number, sdk_guest):
    context = {"epoch": 1, "height": number, "time_ms": 1, "seed": b"s" * 32}
    challenge = {"id": "x", "version": 1, "params": {}}
    whole = {"submission": b"", "miner": b"m" * 32, "challenge": challenge, "context": context}
    raw = sdk_guest.run(msgpack.packb(whole)).raw
    assert msgpack.unpackb(raw)["metrics"]["height"] == number
    assert msgpack.packb(msgpack.unpackb(raw)) == raw


@pytest.fixture(scope="module")
def sdk_guest(tmp_path_factory):
    source = tmp_path_factory.mktemp("sdk") / "user.c"
    source.write_text(SDK_USER)
    return Guest(compile_c([source]))


def test_build_does_not_depend_on_the_folder(tmp_path):
    built = []
    for folder in (tmp_path / "a", tmp_path / "a much longer name"):
        folder.mkdir()
        (folder / "user.c").write_text(SDK_USER)
        built.append(compile_c([folder / "user.c"]))
    assert built[0] == built[1]


def test_a_compiler_error_is_told(tmp_path):
    source = tmp_path / "user.c"
    source.write_text("int evaluate(void) { return nothing; }")
    with pytest.raises(BuildError, match="nothing"):
        compile_c([source])


def test_data_headers(tmp_path):
    table = tmp_path / "some.csv"
    table.write_text("year,value\n1700,5\n1701,-11\n")
    assert data_header(table) == (
        "#define SOME_SIZE 2u\nstatic const int32_t SOME[] = {\n5,-11};\n"
    )
    with pytest.raises(BuildError, match=r"a \.txt or \.csv"):
        data_header(Path("picture.png"))
