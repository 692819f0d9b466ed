"""Every test vector of every example, run, and checked against an independent reference."""

import pytest

from challenges.examples import load, names
from challenges.vectors import encode_input, load_vectors
from tests.challenges.harness import check_output, guest
from tests.challenges.make_vectors import CASES
from tests.challenges.reference import (
    compression_score,
    decompress,
    forecast_errors,
    forecast_score,
)

VECTORS = [
    pytest.param(name, vector, id=f"{name}: {vector.name}")
    for name in names()
    for vector in load_vectors(load(name).vectors_path)
]


def text() -> bytes:
    return (load("text_compression").folder / "data" / "text.txt").read_bytes()


def series() -> list[int]:
    rows = (load("series_forecast").folder / "data" / "series.csv").read_text().split()[1:]
    return [int(row.split(",")[1]) for row in rows]


@pytest.mark.parametrize(("name", "vector"), VECTORS)
def test_vector(name, vector):
    example = load(name)
    data = encode_input(example.spec, vector.submission, vector.miner, vector.context)
    assert len(data) <= example.spec.policy.max_input_bytes
    result = guest(example).run(data)
    assert check_output(result.raw) == vector.output.model_dump()
    assert len(result.raw) <= example.spec.policy.max_output_bytes
    assert vector.expected == "ok"
    assert result.fuel < example.spec.policy.fuel // 2


@pytest.mark.parametrize(("name", "vector"), VECTORS)
def test_valid_vectors_agree_with_the_reference(name, vector):
    if not vector.output.valid:
        assert "submission byte" in vector.output.message
        return
    metrics = vector.output.metrics
    if name == "text_compression":
        made, literals, matches = decompress(vector.submission)
        assert made == text()
        assert metrics == {
            "bytes": len(vector.submission),
            "literals": literals,
            "matches": matches,
        }
        assert vector.output.score == compression_score(len(vector.submission))
        return
    model, naive = forecast_errors(vector.submission, vector.context.seed, series())
    assert metrics == {"model_error": model, "naive_error": naive, "terms": vector.submission[1]}
    assert vector.output.score == forecast_score(model, naive)


@pytest.mark.parametrize("name", names())
def test_vectors_cover_good_and_bad_submissions(name):
    vectors = load_vectors(load(name).vectors_path)
    assert len(vectors) >= 12
    assert len({vector.name for vector in vectors}) == len(vectors)
    assert {vector.output.valid for vector in vectors} == {True, False}
    assert [(vector.name, vector.submission) for vector in vectors] == CASES[name]()
