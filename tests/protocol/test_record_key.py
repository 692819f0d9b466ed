"""One record has one key, and nothing else parses."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import sha256
from protocol.records.record_key import MAX_KEY_BYTES, DhtKind, RecordKey, RecordKeyError

NETWORK = sha256(b"network")
NET = NETWORK.hex()[:16]
names = st.one_of(st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1), st.just("newest"))


@given(st.sampled_from(DhtKind), names)
def test_a_key_reads_as_it_was_written(kind: DhtKind, name: bytes | int | str) -> None:
    key = RecordKey.of(kind, NETWORK, name)
    assert RecordKey.parse(str(key)) == key
    assert len(str(key).encode()) <= MAX_KEY_BYTES
    if isinstance(name, bytes):
        assert key.digest() == name
    if isinstance(name, int):
        assert key.number() == name


@given(
    st.one_of(
        st.text(max_size=200), st.from_regex(r"/[a-z]{1,17}/[0-9a-f]{15,17}/[0-9a-z]{0,65}\n?")
    )
)
def test_any_text_is_the_key_it_says_or_none(text: str) -> None:
    with contextlib.suppress(RecordKeyError):
        assert str(RecordKey.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/result",
        f"/result/{NET}/",
        f"/result/{NET}/a/b",
        f"/Result/{NET}/a",
        f"/result/{NET.upper()}/a",
        f"/result/{NET[:15]}/a",
        f"/result/{NET}/A",
        f"/result/{NET}/a\n",
        f" /result/{NET}/a",
        f"/result/{NET}/{'a' * 65}",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(RecordKeyError, match="no record key"):
        RecordKey.parse(text)


@pytest.mark.parametrize("id_", ["ab" * 31, "ab" * 31 + "zz", "newest"])
def test_a_digest_has_64_hex_digits(id_: str) -> None:
    with pytest.raises(RecordKeyError, match="64 lower-case hex digits"):
        RecordKey.parse(f"/blob/{NET}/{id_}").digest()


@pytest.mark.parametrize("id_", ["01", "newest", "1a", "9" * 20])
def test_a_number_has_one_form(id_: str) -> None:
    with pytest.raises(RecordKeyError, match="decimal number"):
        RecordKey.parse(f"/validators/{NET}/{id_}").number()
