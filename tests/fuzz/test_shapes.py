"""Examples made from types are valid, the same each time, and differ from each other."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.messages import Message
from protocol.codec import decode, encode
from protocol.records.genesis import Genesis
from protocol.records.result import Receipt
from protocol.records.submission import SubmissionMessage
from runtime.wire import Reply
from tests.fuzz.shapes import examples


@pytest.mark.parametrize("kind", [Message, Genesis, Receipt, SubmissionMessage, Reply])
def test_examples_are_valid_and_differ(kind: Any) -> None:
    made = examples(kind)
    assert len(made) == len(set(made)) >= 10
    assert made == examples(kind)
    for data in made:
        assert encode(decode(kind, data)) == data


def test_every_member_of_a_union_appears() -> None:
    tags = {type(decode(Message, data)) for data in examples(Message, count=500)}
    assert len(tags) == 11
