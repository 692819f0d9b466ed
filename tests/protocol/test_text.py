from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text import TextError, decode_text, printable


@pytest.mark.parametrize(
    "text", ["", "plain", "Grüße, 日本語", "a\r\nb\n", "tab\tand more"], ids=repr
)
def test_utf8_is_read_with_and_without_a_byte_order_mark(text: str) -> None:
    assert decode_text(text.encode()) == decode_text(b"\xef\xbb\xbf" + text.encode()) == text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("name".encode("utf-16"), "is text in UTF-16"),
        (b"\xfe\xff\0a", "is text in UTF-16"),
        ("a\nGrüße".encode("latin-1"), r"is not UTF-8 \(line 2, byte 4\); save it as UTF-8"),
        (b"\x7fELF\0\xff", "is no text: it holds binary data"),
    ],
)
def test_anything_else_is_named(data: bytes, words: str) -> None:
    with pytest.raises(TextError, match=words):
        decode_text(data)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [red] {x}", "plain [red] {x}"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("one\ntwo\r\n\t", r"one\ntwo\r\n\t"),
        ("safe\u202etxt.exe", r"safe\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("\udcff\u2028", r"\udcff\u2028"),
        ("👩\u200d🔬 Grüße", "👩\u200d🔬 Grüße"),
    ],
    ids=repr,
)
def test_what_would_be_obeyed_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_stay_where_they_are_wanted() -> None:
    assert printable("one\n\ttwo\r\x1b\n", lines=True) == "one\n\ttwo\\r\\x1b\n"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_shown_is_obeyed(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Zl", "Zp", "Cs"}
    assert printable(shown) == shown
