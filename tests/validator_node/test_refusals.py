from __future__ import annotations

import pytest

from validator_node.network.gossip_checks import CheckAnswer
from validator_node.refusals import FORGED, USELESS, answer_of


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("bad_signature", CheckAnswer.REJECT),
        ("unregistered", CheckAnswer.USELESS),
        ("expired", CheckAnswer.USELESS),
        ("busy", CheckAnswer.IGNORE),
        ("rate_limited", CheckAnswer.IGNORE),
        ("too_many_pending", CheckAnswer.IGNORE),
    ],
)
def test_a_reason_has_its_answer(reason: str, answer: CheckAnswer) -> None:
    assert answer_of(reason) is answer


def test_no_reason_is_both() -> None:
    assert not FORGED & USELESS
