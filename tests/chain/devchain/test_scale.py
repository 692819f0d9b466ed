"""The hand-made SCALE words against the codec that the SDK uses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.devchain.scale import Reader, ScaleError, compact, vec_u16
from tests.chain.devchain.support import codec


@given(st.integers(0, 2**64 - 1))
def test_compact_integers_are_those_of_the_codec(value):
    encoded = compact(value)
    assert encoded == bytes(codec().runtime.encode("Compact<u64>", value))
    assert Reader(encoded).compact("value") == value


@given(st.lists(st.integers(0, 65535), max_size=80))
def test_vectors_are_those_of_the_codec(values):
    encoded = vec_u16(values)
    assert encoded == bytes(codec().runtime.encode("Vec<u16>", values))
    assert Reader(encoded).vec_u16("values") == tuple(values)


@given(st.binary(max_size=40))
def test_reading_anything_is_a_value_or_a_scale_error(data):
    reader = Reader(data)
    try:
        value = reader.compact("anything")
    except ScaleError:
        return
    assert compact(value) + reader.rest() == data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "value: 1 bytes wanted at 0, 0 left"),
        (b"\x02\x00\x00", "value: 3 bytes wanted"),
        (b"\x01\x00", "0 is not in its shortest compact form"),
        (b"\x03\x01\x00\x00\x00", "1 is not in its shortest"),
    ],
)
def test_a_bad_compact_integer_is_named(data, text):
    with pytest.raises(ScaleError, match=text):
        Reader(data).compact("value")


def test_a_negative_number_is_no_compact_integer():
    with pytest.raises(ScaleError, match="-1 is negative"):
        compact(-1)
