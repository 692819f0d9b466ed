"""The mutations know MessagePack and frames, and are functions of their seed."""

from __future__ import annotations

from random import Random

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import Message
from protocol.codec import decode
from tests.fuzz import mutation
from tests.fuzz.mutation import MAX_BYTES, Part, mutate, parts
from tests.fuzz.shapes import examples

SEEDS = examples(Message)


@given(st.binary(max_size=300))
def test_the_parts_are_all_of_the_data(data: bytes) -> None:
    found = parts(data)
    assert b"".join(data[part.start : part.end] for part in found) == data
    assert all(part.end > part.start for part in found)


def test_parts_of_an_encoding() -> None:
    data = msgpack.packb([300, b"abc", "de", [1]])
    assert parts(data) == [
        Part(0, 1, 1),
        Part(1, 4, 3),
        Part(4, 9, 2),
        Part(9, 12, 1),
        Part(12, 13, 1),
        Part(13, 14, 1),
    ]


@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_a_mutation_is_a_function_of_its_seed(data: bytes, seed: int) -> None:
    mutated = mutate(data, SEEDS, seed)
    assert mutated == mutate(data, SEEDS, seed)
    assert len(mutated) <= MAX_BYTES


def test_most_mutations_change_something_and_some_still_decode() -> None:
    made = [mutate(SEEDS[seed % len(SEEDS)], SEEDS, seed) for seed in range(2_000)]
    assert sum(data not in SEEDS for data in made) > 1_800
    accepted = 0
    for data in set(made) - set(SEEDS):
        try:
            decode(Message, data)
        except Exception:
            continue
        accepted += 1
    assert accepted > 20


@given(st.binary(max_size=40), st.integers(0, 2**32))
def test_every_step_takes_anything(data: bytes, seed: int) -> None:
    for step in mutation.STEPS:
        assert isinstance(step(data, (data, b""), Random(seed)), bytes)
        assert isinstance(step(data, (), Random(seed)), bytes)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), st.integers(0, 2**32))
def test_a_change_inside_a_frame_keeps_the_frames(frames: list[bytes], seed: int) -> None:
    data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    changed = mutation._in_frame(data, (data,), Random(seed))
    read = mutation._frames(changed, mutation._read_big_endian)
    assert read is not None
    assert len(read) == len(frames)
    assert sum(new != old for new, old in zip(read, frames, strict=True)) <= 1


@given(st.integers(0, 2**34))
def test_varints(value: int) -> None:
    encoded = mutation._varint(value)
    assert mutation._read_varint(encoded, 0) == (value, len(encoded))
