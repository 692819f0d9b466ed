from __future__ import annotations

import pytest

from chain.errors import ChainErrorCode, Retry
from chain.submitter_advice import ADVICE, advice

WAITS = {
    "SettingWeightsTooFast",
    "CommittingWeightsTooFast",
    "TooManyUnrevealedCommits",
    "RevealTooEarly",
}
BACKS_OFF = {
    "CommitRevealEnabled",
    "CommitRevealDisabled",
    "InvalidRevealRound",
    "Stale",
    "not_included",
    "unexpected",
    "signer_failed",
    "unreachable",
    "deadline",
    "unknown_block",
    "state_unwritable",
}


@pytest.mark.parametrize("code", list(ChainErrorCode))
def test_every_error_has_a_retry_class_and_a_text_for_the_operator(code: ChainErrorCode):
    expected = Retry.WAIT_BLOCKS if code in WAITS else Retry.NEVER
    assert code.retry is (Retry.BACK_OFF if code in BACKS_OFF else expected)
    assert code in ADVICE
    assert advice(code).endswith(".")
    assert 20 < len(advice(code)) <= 220


def test_there_is_no_advice_for_an_error_that_is_none():
    assert {ChainErrorCode(name) for name in ADVICE} == set(ChainErrorCode)
