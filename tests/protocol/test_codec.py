import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from consensus.messages import Vote
from protocol.codec import (
    DEFAULT_LIMIT_BYTES,
    U64,
    Digest,
    Name,
    Record,
    decode,
    digest_of,
    encode,
    sha256,
)
from protocol.errors import DecodeError, TooLargeError
from protocol.records.batch import Batch
from protocol.records.statement import VerdictItem
from tests.protocol.strategies import batches, records


class Number(Record):
    value: U64


class Sample(Record):
    number: U64
    flag: bool
    name: Name
    digest: Digest
    blob: bytes
    inner: Number | None
    rest: tuple[Number, ...]


class Apple(Record, tag="apple"):
    size: U64


class Pear(Record, tag="pear"):
    size: U64


SAMPLE = Sample(
    number=300,
    flag=True,
    name="alpha",
    digest=bytes(32),
    blob=b"xyz",
    inner=Number(value=1),
    rest=(Number(value=2), Number(value=3)),
)
PLAIN = [300, True, "alpha", bytes(32), b"xyz", [1], [[2], [3]]]
"""The sample as the lists that a foreign implementation would write."""


def written(**changes: Any) -> bytes:
    fields = dict(zip(Sample.__struct_fields__, PLAIN, strict=True))
    return msgpack.encode(list({**fields, **changes}.values()))


@given(records)
def test_what_is_encoded_is_decoded_again(record: Record) -> None:
    assert decode(type(record), encode(record)) == record


@given(batches, st.data())
def test_a_changed_byte_is_refused_or_is_another_record(batch: Batch, data: st.DataObject) -> None:
    encoded = bytearray(encode(batch))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = decode(Batch, bytes(encoded))
    except DecodeError:
        return
    assert other != batch
    assert encode(other) == encoded


@given(batches, st.data())
def test_a_cut_or_longer_message_is_refused(batch: Batch, data: st.DataObject) -> None:
    encoded = encode(batch)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(DecodeError):
        decode(Batch, encoded[:cut])
    with pytest.raises(DecodeError):
        decode(Batch, encoded + data.draw(st.binary(min_size=1, max_size=9)))


@given(st.binary(max_size=60))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    for kind in (Number, Sample, Apple | Pear, Any):
        try:
            value = decode(kind, data)
        except DecodeError:
            continue
        assert encode(value) == data


def test_a_record_is_an_array_of_its_fields_in_order() -> None:
    assert encode(SAMPLE) == written()
    assert encode(SAMPLE)[:6] == bytes.fromhex("97cd012cc3a5")
    assert decode(Sample, written()) == SAMPLE


def test_a_union_member_begins_with_its_tag() -> None:
    assert encode(Apple(size=5)) == b"\x92\xa5apple\x05"
    assert decode(Apple | Pear, encode(Pear(size=5))) == Pear(size=5)
    with pytest.raises(DecodeError):
        decode(Apple, encode(Pear(size=5)))


@pytest.mark.parametrize(
    "longer",
    [
        "91cc05",
        "91cd0005",
        "91ce00000005",
        "91cf0000000000000005",
        "91d005",
        "91d10005",
        "91d200000005",
        "91d30000000000000005",
        "91ca40a00000",
        "91cb4014000000000000",
        "dc000105",
        "dd0000000105",
    ],
)
def test_a_longer_form_of_the_same_number_is_refused(longer: str) -> None:
    assert decode(Number, bytes.fromhex("9105")) == Number(value=5)
    with pytest.raises(DecodeError):
        decode(Number, bytes.fromhex(longer))


@pytest.mark.parametrize(
    ("short", "longer"),
    [
        (b"\xa5alpha", b"\xd9\x05alpha"),
        (b"\xa5alpha", b"\xda\x00\x05alpha"),
        (b"\xc4\x03xyz", b"\xc5\x00\x03xyz"),
        (b"\xc4\x03xyz", b"\xc6\x00\x00\x00\x03xyz"),
        (b"\x92\x91\x02", b"\xdc\x00\x02\x91\x02"),
        (b"\xcd\x01\x2c", b"\xce\x00\x00\x01\x2c"),
    ],
)
def test_a_longer_form_inside_is_refused(short: bytes, longer: bytes) -> None:
    assert written().count(short) == 1
    with pytest.raises(DecodeError, match="canonical"):
        decode(Sample, written().replace(short, longer))


@pytest.mark.parametrize(
    "changes",
    [
        {"number": -1},
        {"number": 2**63},
        {"number": "300"},
        {"number": True},
        {"number": None},
        {"flag": 1},
        {"name": b"alpha"},
        {"name": ""},
        {"name": "Alpha"},
        {"name": "-alpha"},
        {"name": "alpha\n"},
        {"name": "a" * 65},
        {"digest": bytes(31)},
        {"digest": bytes(33)},
        {"digest": "0" * 32},
        {"blob": "xyz"},
        {"blob": [1, 2]},
        {"inner": []},
        {"inner": [1, 2]},
        {"inner": {"value": 1}},
        {"rest": [2, 3]},
        {"rest": None},
    ],
    ids=str,
)
def test_wrong_types_and_bounds_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode(Sample, written(**changes))


@pytest.mark.parametrize("changes", [{"number": 2**63 - 1}, {"name": "a" * 64}, {"inner": None}])
def test_bounds_are_inclusive(changes: dict[str, Any]) -> None:
    assert encode(decode(Sample, written(**changes))) == written(**changes)


@pytest.mark.parametrize(
    "data",
    [
        msgpack.encode(PLAIN[:-1]),
        msgpack.encode([*PLAIN, 0]),
        msgpack.encode(dict(zip(Sample.__struct_fields__, PLAIN, strict=True))),
        msgpack.encode(["sample", *PLAIN]),
        b"",
        b"\xc1",
        b"\x91\xa1\xff",
    ],
)
def test_missing_and_additional_elements_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(Sample, data)


@pytest.mark.parametrize("tag", ["plum", "", "Apple", 0, None])
def test_an_unknown_tag_is_refused(tag: Any) -> None:
    with pytest.raises(DecodeError):
        decode(Apple | Pear, msgpack.encode([tag, 5]))


def test_an_element_with_a_default_may_not_be_left_out() -> None:
    vote = Vote(
        kind="prepare", epoch=0, view=0, seq=1, digest=bytes(32), signer=0, signature=bytes(64)
    )
    fields = msgpack.decode(encode(vote))
    assert decode(Vote, msgpack.encode(fields)) == vote
    with pytest.raises(DecodeError, match="canonical"):
        decode(Vote, msgpack.encode(fields[:-1]))


@pytest.mark.parametrize("text", ["é", "\N{SNOWMAN}", "a b"])
def test_a_name_is_ascii(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(Sample, written(name=text))


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode(str, b"\xa2\xc3\x28")


def test_nesting_beyond_reason_is_an_error_like_any_other() -> None:
    deep = b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(DecodeError):
        decode(Any, deep)
    with pytest.raises(DecodeError):
        decode(Sample, deep)


def test_the_limit_counts_bytes_before_anything_is_decoded() -> None:
    data = encode(SAMPLE)
    assert decode(Sample, data, limit_bytes=len(data)) == SAMPLE
    with pytest.raises(TooLargeError, match=rf"Sample: {len(data)} bytes.* {len(data) - 1}"):
        decode(Sample, data, limit_bytes=len(data) - 1)
    with pytest.raises(TooLargeError):
        decode(Sample, b"\xc1" * 10, limit_bytes=9)
    with pytest.raises(TooLargeError):
        decode(bytes, encode(bytes(DEFAULT_LIMIT_BYTES)))
    assert issubclass(TooLargeError, DecodeError)
    assert (DecodeError.reason, TooLargeError.reason) == ("malformed", "too_large")


def test_the_same_bytes_are_read_as_the_kind_that_is_asked_for() -> None:
    data = encode(Number(value=7))
    assert decode(Number, data) == Number(value=7)
    with pytest.raises(DecodeError):
        decode(Sample, data)
    assert decode(list[int], data) == [7]


def test_records_cannot_be_changed_and_can_be_set_members() -> None:
    with pytest.raises(AttributeError):
        SAMPLE.number = 1  # type: ignore[misc]
    assert len({SAMPLE, decode(Sample, encode(SAMPLE))}) == 1


def test_a_score_beyond_the_maximum_never_exists_on_the_receiving_side() -> None:
    item = VerdictItem(
        submission_id=bytes(32), verdict_hash=bytes(32), outcome_class="scored", score=1_000_001
    )
    with pytest.raises(DecodeError):
        decode(VerdictItem, encode(item))


def test_digests() -> None:
    assert sha256(b"a", b"", b"bc") == hashlib.sha256(b"abc").digest()
    assert digest_of(SAMPLE) == hashlib.sha256(written()).digest()
