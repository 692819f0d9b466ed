"""Writes the examples' ``vectors.json``: ``python -m tests.challenges.make_vectors``.

The outputs are recorded from the modules; ``test_example_vectors.py`` checks them against
``reference.py``, so a wrong module cannot certify itself.
"""

import json
import struct
from pathlib import Path

from challenges.examples import Example, load, names, payload
from challenges.examples.text_compression.encoding import encode, encode_table
from challenges.vectors import Context, Output, Vector, VectorFile, encode_input
from tests.challenges.harness import check_output, guest

ONE = 1 << 16


def bits(text: str) -> bytes:
    """A submission from its bits after the version byte."""
    text = text.replace(" ", "")
    size = (len(text) + 7) // 8
    return b"\x01" + int(text.ljust(size * 8, "0") or "0", 2).to_bytes(size, "big")


def table(symbols: int, lengths: dict[int, int]) -> str:
    return encode_table([lengths.get(symbol, 0) for symbol in range(symbols)])


def text_cases() -> list[tuple[str, bytes]]:
    best = payload("text_compression", 3, 0)
    first = {ord("T"): 1, 128: 1}  # the text begins with "The"; 128 is a match of 3
    one_letter = table(144, first) + table(26, {0: 1})
    text = (Path(load("text_compression").folder) / "data" / "text.txt").read_bytes()
    return [
        *(
            (f"skill {s} attempt {a}", payload("text_compression", s, a))
            for s in range(4)
            for a in (0, 7)
        ),
        ("empty submission", b""),
        ("unknown version", b"\x02" + best[1:]),
        ("version byte only", b"\x01"),
        ("ends inside a token", best[:2000]),
        ("last byte missing", best[:-1]),
        ("one bit of the text changed", best[:1500] + bytes([best[1500] ^ 4]) + best[1501:]),
        ("a byte too many", best + b"\0"),
        ("padding not zero", best[:-1] + bytes([best[-1] | 1])),
        ("over the size limit", best.ljust(4097, b"\0")),
        ("literals alone are over the size limit", encode([(0, byte) for byte in text])),
        ("over-subscribed code", bits("0001" * 3 + table(141, {}))),
        ("a run of zeros leaves the table", bits("0000 1111" * 11)),
        ("bits that are no code word", bits(table(144, {ord("T"): 2}) + table(26, {}) + "11" * 9)),
        ("a match before the text", bits(one_letter + "1 0")),
        ("another text", bits(one_letter + "0 1 0" + "0" * 8)),
    ]


def model(terms: list[tuple[int, int]], intercept: int = 0) -> bytes:
    body = b"".join(struct.pack("<Bi", lag, weight) for lag, weight in terms)
    return struct.pack("<BBHi", 1, len(terms), 0, intercept) + body


def series_cases() -> list[tuple[str, bytes]]:
    good = payload("series_forecast", 1, 0)
    top, bottom = 2**31 - 1, -(2**31)
    return [
        *(
            (f"skill {s} attempt {a}", payload("series_forecast", s, a))
            for s in range(4)
            for a in (0, 7)
        ),
        ("the naive forecast scores one half", model([(1, ONE)])),
        ("a cycle ago", model([(11, ONE)])),
        ("always zero", model([(1, 0)])),
        ("largest coefficients", model([(lag, top) for lag in range(52, 101)], top)),
        ("smallest coefficients", model([(lag, bottom) for lag in range(52, 101)], bottom)),
        ("alternating extremes", model([(lag, top if lag % 2 else bottom) for lag in (1, 2)])),
        ("rounds half up", model([(1, ONE // 2)], ONE // 2)),
        ("empty submission", b""),
        ("unknown version", b"\x07" + good[1:]),
        ("header cut", good[:5]),
        ("no terms", model([])),
        ("fifty terms", model([(lag, 1) for lag in range(1, 51)])),
        ("reserved byte set", good[:3] + b"\x09" + good[4:]),
        ("last byte missing", good[:-1]),
        ("a byte too many", good + b"\0"),
        ("lag zero", model([(0, ONE)])),
        ("lag over 100", model([(1, ONE), (101, ONE)])),
        ("lags not increasing", model([(3, ONE), (3, ONE)])),
    ]


CASES = {"text_compression": text_cases, "series_forecast": series_cases}


def record(example: Example, number: int, name: str, submission: bytes) -> Vector:
    context = Context(
        epoch=number,
        height=1000 + 7 * number,
        time_ms=1_700_000_000_000 + number,
        seed=bytes((17 * number + i) % 256 for i in range(32)),
    )
    miner = bytes([number]) * 32
    data = encode_input(example.spec, submission, miner, context)
    output = Output(**check_output(guest(example).run(data).raw))
    return Vector(
        name=name,
        submission=submission,
        miner=miner,
        context=context,
        expected="ok",
        output=output,
    )


def main() -> None:
    for name in names():
        example = load(name)
        vectors = tuple(record(example, number, *case) for number, case in enumerate(CASES[name]()))
        file = VectorFile(challenge=name, version=example.spec.version, vectors=vectors)
        text = json.dumps(file.model_dump(mode="json"), indent=1) + "\n"
        example.vectors_path.write_text(text, encoding="utf-8")
        for vector in vectors:
            print(f"{name}: {vector.name}: {vector.output}")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
