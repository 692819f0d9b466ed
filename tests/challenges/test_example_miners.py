"""The example miners: valid, distinct, deterministic, fast, and better with more skill."""

import itertools
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.examples import load, names, payload
from challenges.examples.series_forecast.model import ONE, encode, fit, solve
from challenges.examples.text_compression import encoding, parsing
from challenges.vectors import Context, encode_input
from tests.challenges.harness import check_output, guest
from tests.challenges.reference import decompress

SKILLS = range(4)
FUZZ = settings(database=None)


def output_of(name: str, submission: bytes, seed: int = 0) -> dict:
    example = load(name)
    context = Context(epoch=0, height=0, time_ms=0, seed=seed.to_bytes(32, "big"))
    data = encode_input(example.spec, submission, b"\0" * 32, context)
    return check_output(guest(example).run(data).raw)


@pytest.mark.parametrize("name", names())
def test_skill_pays(name):
    scores = []
    for skill in SKILLS:
        outputs = [output_of(name, payload(name, skill, a), seed=a) for a in range(40)]
        assert all(output["valid"] for output in outputs)
        scores.append(statistics.mean(output["score"] for output in outputs))
    for lower, higher in itertools.pairwise(scores):
        assert higher > lower + 10_000
    assert scores[0] > 100_000
    assert scores[-1] < 900_000, "no headroom is left"


@pytest.mark.parametrize("name", names())
def test_payloads_differ_and_repeat(name):
    made = [payload(name, skill, attempt) for skill in SKILLS for attempt in range(400)]
    assert len(set(made)) == len(made)
    assert made[401] == payload(name, 1, 1)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("skill", SKILLS)
def test_payloads_are_quick(name, skill):
    payload(name, skill, 0)
    durations = []
    for attempt in range(1, 21):
        start = time.process_time()
        payload(name, skill, attempt)
        durations.append(time.process_time() - start)
    assert statistics.median(durations) < 0.010  # CPU time: 1 to 2 ms


@pytest.mark.parametrize(("skill", "attempt"), [(-1, 0), (4, 0), (0, -1)])
def test_arguments_out_of_range(skill, attempt):
    with pytest.raises(ValueError, match="was expected"):
        payload("series_forecast", skill, attempt)


def test_unknown_example():
    with pytest.raises(KeyError, match="no example is called 'chess'; there are series_forecast"):
        load("chess")


@pytest.mark.parametrize("skill", SKILLS)
def test_compressor_round_trip(skill):
    text = (load("text_compression").folder / "data" / "text.txt").read_bytes()
    for attempt in range(5):
        assert decompress(payload("text_compression", skill, attempt))[0] == text


TEXTS = st.text(alphabet="ab\n ", min_size=1, max_size=400).map(str.encode)


@FUZZ
@given(text=TEXTS, rounds=st.integers(0, 3))
def test_parses_spell_the_text(text, rounds):
    matches = parsing.find_matches(text)
    for tokens in (
        parsing.greedy(text, matches, window=64),
        parsing.lazy(text, matches),
        parsing.cheapest(text, matches, rounds),
    ):
        made = bytearray()
        for length, other in tokens:
            for _ in range(length):
                made.append(made[-other])
            if not length:
                made.append(other)
        assert bytes(made) == text
        assert encoding.encode(tokens)[0] == 1


@FUZZ
@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=144))
def test_code_lengths_are_a_prefix_code(counts):
    lengths = encoding.code_lengths(counts)
    assert all((length > 0) == (count > 0) for length, count in zip(lengths, counts, strict=True))
    assert max(lengths) <= encoding.MAX_BITS
    assert sum(2**-length for length in lengths if length) <= 1
    words = [word for word in encoding.canonical_codes(lengths) if word]
    assert all(not other.startswith(word) for word in words for other in words if other is not word)


def test_code_lengths_are_limited():
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    assert max(encoding.code_lengths(fibonacci)) <= encoding.MAX_BITS


def test_least_squares_finds_a_known_model():
    assert solve([[4.0, 2.0], [2.0, 3.0]], [10.0, 8.0]) == pytest.approx([1.75, 1.5])
    values = [100.0, 300.0]
    for i in range(200):
        values.append(1.5 * values[-1] - 0.8 * values[-2] + 50.0 + (i * 7919 % 13 - 6))
    intercept, coefficients = fit(values, (1, 2), ridge=0.0)
    assert coefficients == pytest.approx([1.5, -0.8], abs=0.05)
    assert intercept == pytest.approx(50.0, abs=15.0)


def test_coefficients_saturate():
    data = encode(1e9, (1, 2), (-1e9, 1.0))
    assert int.from_bytes(data[4:8], "little", signed=True) == 2**31 - 1
    assert int.from_bytes(data[9:13], "little", signed=True) == -(2**31)
    assert int.from_bytes(data[14:18], "little", signed=True) == ONE
