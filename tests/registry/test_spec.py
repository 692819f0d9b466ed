"""platform.toml: what is accepted, and that each refusal names the file, the field and the rule."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from registry.errors import RegistryError, SpecError
from registry.spec import HOST_FUNCTIONS, ChallengeSpec, load_spec, parse_spec

GOOD = """
id = "sorting"
version = 3
title = "Sorting"
description = "Sort numbers."
emission = 20

[policy]
fuel = 1_000_000
memory_pages = 16
max_input_bytes = 4096
max_output_bytes = 256
max_log_lines = 4
host_functions = ["log", "sha256"]

[params]
rounds = 5
strict = true
mode = "fast"
"""
PATH = Path("platform.toml")


def refusal(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, PATH)
    return caught.value


def test_a_good_spec(tmp_path):
    path = tmp_path / "platform.toml"
    path.write_text(GOOD)
    spec = load_spec(path)
    assert (spec.id, spec.version, spec.title, spec.emission) == ("sorting", 3, "Sorting", 20)
    assert spec.policy.fuel == 1_000_000
    assert spec.policy.host_functions == ("log", "sha256")
    assert spec.policy.data_keys == ()
    assert spec.policy.storage_bytes == 0
    assert dict(spec.params) == {"rounds": 5, "strict": True, "mode": "fast"}
    assert spec.params["strict"] is True


def test_params_may_be_left_out():
    spec = parse_spec(GOOD.split("[params]")[0], PATH)
    assert dict(spec.params) == {}


def test_a_spec_cannot_be_changed():
    spec = parse_spec(GOOD, PATH)
    with pytest.raises(ValidationError):
        spec.emission = 5
    with pytest.raises(ValidationError):
        spec.policy.fuel = 5


def test_a_spec_survives_json_and_pickle():
    spec = parse_spec(GOOD, PATH)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert ChallengeSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.model_dump()["params"] == {"rounds": 5, "strict": True, "mode": "fast"}


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ('id = "sorting"', 'id = "Sorting!"', "id", "'Sorting!'"),
        ('id = "sorting"', "", "id", "this field is missing"),
        ("version = 3", "version = 0", "version", "greater than or equal to 1, found 0"),
        ("version = 3", 'version = "3"', "version", "valid integer, found '3'"),
        ("version = 3", "version = true", "version", "valid integer, found True"),
        ('title = "Sorting"', 'title = ""', "title", "at least 1 character"),
        ("emission = 20", "emission = 0.2", "emission", "valid integer, found 0.2"),
        ("emission = 20", "emission = -1", "emission", "greater than or equal to 0"),
        ("emission = 20", "emission = 20\nemissions = 3", "emissions", "this field is unknown"),
        ("fuel = 1_000_000", "fuel = 0", "policy.fuel", "greater than or equal to 1"),
        ("fuel = 1_000_000", "", "policy.fuel", "this field is missing"),
        ("memory_pages = 16", "memory_pages = 1025", "policy.memory_pages", "equal to 1024"),
        ("max_log_lines = 4", "max_lines = 4", "policy.max_log_lines", "this field is missing"),
        ('"log", "sha256"', '"log", "exec"', "policy.host_functions", "'exec' is no host function"),
        ('"log", "sha256"', '"log", "log"', "policy.host_functions", "'log' is listed twice"),
        ('"log", "sha256"', "1", "policy.host_functions.0", "valid string, found 1"),
        ("rounds = 5", "rounds = 0.5", "params.rounds", "a string was expected, found 0.5"),
        (
            "rounds = 5",
            "rounds = 9223372036854775808",
            "params.rounds",
            "64 signed bits was expected",
        ),
        ("rounds = 5", "rounds = [5]", "params.rounds", "found [5]"),
        ("rounds = 5", "Rounds = 5", "params.Rounds", "should match pattern"),
        ("rounds = 5", f'rounds = "{"x" * 1025}"', "params.rounds", "at most 1024 characters"),
    ],
)
def test_refusals(old, new, field, words):
    assert old in GOOD
    error = refusal(GOOD.replace(old, new))
    assert error.path == PATH
    assert error.field == field
    assert str(error).startswith(f"platform.toml: {field}: ")
    assert words in str(error)
    assert isinstance(error, RegistryError)


def test_too_many_params():
    lines = "".join(f"p{i} = {i}\n" for i in range(70))
    assert "params: " in str(refusal(GOOD + lines))


def test_not_toml():
    error = refusal("id = ")
    assert error.field == ""
    assert "platform.toml: valid TOML was expected" in str(error)


def test_unreadable_files(tmp_path):
    with pytest.raises(SpecError, match="a readable file was expected: No such file"):
        load_spec(tmp_path / "platform.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b'title = "\xe9"')
    with pytest.raises(SpecError, match=r"is not UTF-8 \(line 1, byte 9\); save it as UTF-8"):
        load_spec(path)


def test_every_host_function_may_be_listed():
    listed = ", ".join(f'"{name}"' for name in HOST_FUNCTIONS)
    spec = parse_spec(GOOD.replace('"log", "sha256"', listed), PATH)
    assert spec.policy.host_functions == HOST_FUNCTIONS


@settings(database=None)
@given(text=st.text())
def test_any_text_is_refused_with_a_spec_error(text):
    refusal(text)
