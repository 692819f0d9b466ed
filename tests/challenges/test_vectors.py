"""vectors.json: its forms, its round trip, and one clear line for each mistake in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenges.errors import MistakeError
from challenges.vectors import (
    NOWHERE,
    Vector,
    VectorFile,
    load_vector_file,
    load_vectors,
    save_vector_file,
)
from tests.challenges.test_project import ONE_LINE

OUTPUT = {"score": 1, "valid": True, "message": "", "metrics": {}}


def written(tmp_path, **changes):
    vector = {"name": "a", "submission": "text:hi", "expected": "ok", "output": OUTPUT} | changes
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps({"challenge": "x", "version": 1, "vectors": [vector]}))
    return path


def test_the_short_form(tmp_path):
    vector = load_vectors(written(tmp_path))[0]
    assert vector.submission == b"hi"
    assert (vector.miner, vector.context) == (bytes(32), NOWHERE)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("", b""),
        ("00ff", b"\0\xff"),
        ("text:", b""),
        ("text:é", "é".encode()),
        ("text:text:", b"text:"),
    ],
)
def test_submissions(tmp_path, words, meant):
    assert load_vectors(written(tmp_path, submission=words))[0].submission == meant


@given(submission=st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_round_trip(tmp_path_factory, submission):
    path = tmp_path_factory.mktemp("vectors") / "vectors.json"
    vector = Vector(name="a", submission=submission, expected="trap", output=None)
    file = VectorFile(challenge="x", version=1, vectors=(vector,))
    save_vector_file(path, file)
    assert load_vector_file(path) == file


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"output": OUTPUT | {"score": 0.5}}, "vectors.0.output.score", "a valid integer"),
        ({"output": OUTPUT | {"score": 1_000_001}}, "vectors.0.output.score", "1000000"),
        ({"expected": "fine"}, "vectors.0.expected", "'out_of_fuel'"),
        ({"submission": "xyz"}, "vectors.0.submission", "bytes in hex, or 'text:' and the text"),
        ({"submission": 5}, "vectors.0.submission", "bytes in hex, or 'text:' and the text"),
        ({"miner": "xyz"}, "vectors.0.miner", "bytes in hex, two digits each"),
        ({"miner": 5}, "vectors.0.miner", "bytes in hex"),
        ({"name": "x" * 81}, "vectors.0.name", "at most 80 characters"),
        ({"miner": "00"}, "vectors.0.miner", "at least 32"),
        ({"seed": 1}, "vectors.0.seed", "no field of this name"),
        ({"output": None}, "a", "an output if, and only if"),
        ({"expected": "trap"}, "a", "an output if, and only if"),
    ],
)
def test_mistakes(tmp_path, changes, field, words):
    path = written(tmp_path, **changes)
    with pytest.raises(MistakeError) as caught:
        load_vectors(path)
    assert caught.value.where == f"{path}: {field}"
    assert words in caught.value.expected
    assert ONE_LINE.match(str(caught.value))


def test_a_name_twice(tmp_path):
    path = written(tmp_path)
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"vectors": table["vectors"] * 2}))
    with pytest.raises(MistakeError, match="'a' twice"):
        load_vectors(path)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_no_json(tmp_path, data):
    path = tmp_path / "vectors.json"
    path.write_bytes(data)
    with pytest.raises(MistakeError, match="expected valid JSON"):
        load_vectors(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [("[]", "a list"), ('[{"name": "a"}]', "a list"), ("7", "7"), ("null", "null")],
)
def test_vectors_without_their_object_are_told_the_form(tmp_path, text, found):
    path = tmp_path / "vectors.json"
    path.write_text(text)
    with pytest.raises(MistakeError) as caught:
        load_vectors(path)
    assert caught.value.found == found
    assert 'an object with "challenge", "version" and "vectors"' in str(caught.value)
    assert 'Put the list behind "vectors"' in caught.value.advice


def test_no_file(tmp_path):
    with pytest.raises(MistakeError, match="expected test vectors"):
        load_vectors(tmp_path / "vectors.json")


def test_what_is_left_out_stays_out_and_a_score_is_one_line(tmp_path):
    path = written(tmp_path, submission="text:é")
    file = load_vector_file(path)
    save_vector_file(path, file)
    before = path.read_text().splitlines()
    assert '   "submission": "text:é",' in before
    assert not any("miner" in line or "context" in line for line in before)
    output = file.vectors[0].output
    assert output is not None
    changed = file.vectors[0].model_copy(update={"output": output.model_copy(update={"score": 2})})
    save_vector_file(path, file.model_copy(update={"vectors": (changed,)}))
    after = path.read_text().splitlines()
    (changes,) = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert changes[1] == changes[0].replace('"score": 1', '"score": 2')
