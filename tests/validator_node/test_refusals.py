from __future__ import annotations

import pytest

from validator_node.network.gossip_checks import CheckAnswer
from validator_node.refusals import FORGED, USELESS, answer_of

REJECTED = ("bad_signature", "body_mismatch", "wrong_network")
OUR_STATE_SAYS = (
    "expired",
    "expires_too_late",
    "other_version",
    "too_large",
    "unknown_challenge",
    "unregistered",
    "wrong_topic",
)


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        *((reason, CheckAnswer.REJECT) for reason in REJECTED),
        *((reason, CheckAnswer.USELESS) for reason in OUR_STATE_SAYS),
        ("busy", CheckAnswer.IGNORE),
        ("rate_limited", CheckAnswer.IGNORE),
        ("too_many_pending", CheckAnswer.IGNORE),
    ],
)
def test_a_reason_has_its_answer(reason: str, answer: CheckAnswer) -> None:
    assert answer_of(reason) is answer


def test_each_reason_that_costs_something_is_named_above() -> None:
    assert set(REJECTED) == FORGED
    assert set(OUR_STATE_SAYS) == USELESS
