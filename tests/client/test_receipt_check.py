"""The document's six steps, followed by hand, agree with the product on the receipt vector."""

from __future__ import annotations

import pytest

from consensus.validators import effective_weights
from tests.client.receipt_check import NotProvedError, check, voting_weights
from tests.protocol.receipt_fixture import GENESIS_FILE, RECEIPT_FILE, Chain, make_genesis
from tests.protocol.worked_example import shown

RECEIPT = bytes.fromhex(RECEIPT_FILE.read_text())
GENESIS = bytes.fromhex(GENESIS_FILE.read_text())


def test_the_steps_prove_the_receipt():
    assert check(RECEIPT, GENESIS)[0] == shown()["submission-id"]


def test_the_steps_refuse_every_flipped_bit():
    for bit in range(8 * len(RECEIPT)):
        changed = bytearray(RECEIPT)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(NotProvedError):
            check(bytes(changed), GENESIS)


@pytest.mark.parametrize(
    "weights",
    [
        (600, 200, 100, 60, 40),
        (1, 1, 1, 1, 1),
        (1000, 1, 1, 1, 1),
        (310, 270, 230, 190, 1, 1, 7),
        (900, 5, 5, 5),
        (1, 2),
    ],
)
def test_the_cap_is_the_products(weights: tuple[int, ...]):
    assert tuple(voting_weights(list(weights))) == effective_weights(weights)


def test_the_vectors_set_needs_the_cap():
    voters = Chain(make_genesis()).voters
    assert list(voters.weights) == voting_weights([m.weight for m in voters.members])
    assert max(voters.weights) < max(m.weight for m in voters.members)
