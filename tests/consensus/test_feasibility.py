"""A genesis from which no network can run is refused, each mistake by name."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.feasibility import (
    CERTIFICATE_BYTES,
    MAX_NEW_VIEW_BYTES,
    most_members,
    most_signers,
    new_view_bytes,
    why_impossible,
)
from consensus.messages import MAX_WINDOW
from protocol.codec import encode
from protocol.records.genesis import ElectionRules
from protocol.records.validators import MAX_VALIDATORS, ValidatorSet
from tests.consensus.builders import Signers, make_header, make_voters
from tests.support import World, make_challenge, replaced

GENESIS = World((1, 1, 1, 1)).genesis
FIRST, SECOND, *OTHERS = GENESIS.validators.members


def with_members(*members: Any) -> Any:
    return replaced(GENESIS, validators=replaced(GENESIS.validators, members=members))


def with_parameters(**changes: int) -> Any:
    return replaced(GENESIS, parameters=replaced(GENESIS.parameters, **changes))


def test_a_sound_genesis_has_nothing_against_it() -> None:
    assert why_impossible(GENESIS) == []
    assert why_impossible(with_parameters(window=MAX_WINDOW)) == []
    assert why_impossible(with_parameters(term=4, window=4)) == []
    assert why_impossible(with_parameters(max_timeout_ms=1000, base_timeout_ms=1000)) == []


@pytest.mark.parametrize(
    ("genesis", "word"),
    [
        (with_parameters(window=MAX_WINDOW + 1), "window is 65"),
        (with_parameters(term=3, window=4), "term is 3"),
        (with_parameters(max_timeout_ms=999, base_timeout_ms=1000), "max_timeout_ms is 999"),
        (with_members(), "no validator"),
        (replaced(GENESIS, validators=GENESIS.validators.for_epoch(3)), "epoch 3"),
        (
            replaced(GENESIS, election=ElectionRules(min_members=9, max_members=8)),
            "min_members is 9",
        ),
        (
            with_members(FIRST, replaced(SECOND, consensus_key=FIRST.consensus_key), *OTHERS),
            f"consensus key {FIRST.consensus_key.hex()} stands 2 times",
        ),
        (
            with_members(FIRST, replaced(SECOND, hotkey=FIRST.hotkey), *OTHERS),
            f"validator's hotkey {FIRST.hotkey.hex()}",
        ),
        (replaced(GENESIS, neurons=(*GENESIS.neurons, GENESIS.neurons[2])), "uid 2 stands 2"),
        (
            replaced(GENESIS, challenges=(make_challenge("alpha"), make_challenge("alpha"))),
            "challenge alpha stands 2 times",
        ),
    ],
)
def test_each_mistake_is_named(genesis: Any, word: str) -> None:
    assert any(word in reason for reason in why_impossible(genesis)), why_impossible(genesis)


@pytest.mark.parametrize(("members", "window"), [(4, 4), (10, 16), (31, 2), (64, 5)])
def test_the_bound_holds_for_a_new_view_of_equal_weights(members: int, window: int) -> None:
    voters = make_voters(*([1] * members))
    signers = Signers(voters)
    quorum = voters.smallest_quorum(range(members))
    assert len(quorum) == most_signers(members)
    tip = signers.certificate(make_header("tip", 2**63, epoch=0), view=2**63)
    prepared = tuple(
        signers.certificate(make_header("slot", 2**63 + seq), "prepare", 2**63)
        for seq in range(1, window + 1)
    )
    changes = [signers.view_change(signer, 2**63 + 1, tip, prepared) for signer in quorum]
    size = len(encode(signers.new_view(2**63 + 1, changes)))
    assert size <= new_view_bytes(members, window) + CERTIFICATE_BYTES
    assert size > 0.7 * new_view_bytes(members, window)


def test_the_more_slots_the_fewer_validators() -> None:
    assert most_members(4) == MAX_VALIDATORS
    assert [most_members(window) for window in (16, 64)] == sorted(
        (most_members(16), most_members(64)), reverse=True
    )
    for window in (16, MAX_WINDOW):
        most = most_members(window)
        assert 40 < most < MAX_VALIDATORS
        assert new_view_bytes(most, window) <= MAX_NEW_VIEW_BYTES
        assert new_view_bytes(most + 1, window) > MAX_NEW_VIEW_BYTES


def test_too_many_validators_for_the_window_are_refused() -> None:
    most = most_members(MAX_WINDOW)
    many = ValidatorSet(
        epoch=0,
        members=tuple(
            replaced(FIRST, hotkey=bytes([1, *divmod(i, 256)]) + bytes(29),
                     consensus_key=bytes([2, *divmod(i, 256)]) + bytes(29))
            for i in range(most + 1)
        ),
    )  # fmt: skip
    genesis = replaced(with_parameters(window=MAX_WINDOW), validators=many)
    assert any(f"at most {most} validators" in reason for reason in why_impossible(genesis))
