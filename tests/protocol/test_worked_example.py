"""docs/protocol.md cannot drift: its worked example is computed again, its receipt verified."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from consensus.receipts import verify_receipt, voters_from
from consensus.validators import Voters
from protocol.codec import decode, digest_of, encode
from protocol.errors import DecodeError, ProofError, SignatureError
from protocol.identity import Hotkey, verify_consensus, verify_hotkey
from protocol.records.genesis import Genesis
from protocol.records.submission import SubmissionMessage
from protocol.records.validators import ValidatorSet
from tests.protocol.receipt_fixture import (
    GENESIS_FILE,
    MINER,
    RECEIPT_FILE,
    hex_lines,
    make_example,
)
from tests.protocol.worked_example import Value, shown, values

SHOWN = shown()
VotersOf = Callable[[int], Voters]


@pytest.mark.parametrize(("name", "expected"), values().items())
def test_the_document_shows_what_the_code_makes(name: str, expected: Value):
    assert SHOWN[name] == expected


def test_the_document_shows_nothing_else():
    assert set(SHOWN) == set(values())


def test_the_documents_signature_verifies():
    hotkey, payload, signature = (SHOWN[n] for n in ("hotkey", "signed-payload", "signature"))
    assert Hotkey(SHOWN["seed"]).public_key == hotkey
    assert len(payload) == 88
    verify_hotkey(hotkey, payload, signature)
    with pytest.raises(SignatureError):
        verify_hotkey(hotkey, payload[:-1] + b"\0", signature)
    wrapped = MINER.sign(b"<Bytes>" + payload + b"</Bytes>")
    with pytest.raises(SignatureError):
        verify_hotkey(hotkey, payload, wrapped)


def test_the_documents_message_is_acceptable():
    message = decode(SubmissionMessage, SHOWN["submission-message"])
    [posted] = message.posted
    posted.check_body()
    posted.signed.verify(SHOWN["network-id"])


def test_the_documents_commit_signature_verifies():
    payload = SHOWN["commit-payload"]
    assert len(payload) == 172
    assert verify_consensus(payload[-32:], payload, SHOWN["commit-signature"])


# --- the receipt of tests/vectors ----------------------------------------------------------------


@pytest.fixture(scope="module")
def receipt() -> bytes:
    return bytes.fromhex(RECEIPT_FILE.read_text())


@pytest.fixture(scope="module")
def genesis() -> Genesis:
    return decode(Genesis, bytes.fromhex(GENESIS_FILE.read_text()))


@pytest.fixture(scope="module")
def voters(genesis: Genesis) -> VotersOf:
    return cache(voters_from(genesis))


def test_the_vectors_are_what_the_generator_makes():
    example = make_example()
    assert GENESIS_FILE.read_text() == hex_lines(encode(example.genesis))
    assert RECEIPT_FILE.read_text() == hex_lines(encode(example.receipt))


def test_the_receipt_verifies(receipt: bytes, voters: VotersOf):
    verified = verify_receipt(receipt, voters, verify_consensus)
    assert verified.result.submission_id == SHOWN["submission-id"]
    assert encode(verified.result) == SHOWN["result"]
    assert verified.body.state_root == SHOWN["climb"][-32:]
    assert digest_of(verified.certificate.header) == SHOWN["header-digest"]
    assert verified.certificate.signers == b"\x0b"


def test_every_single_flipped_bit_is_refused(receipt: bytes, voters: VotersOf):
    for bit in range(8 * len(receipt)):
        changed = bytearray(receipt)
        changed[bit // 8] ^= 1 << (bit % 8)
        refused(bytes(changed), voters, f"bit {bit % 8} of byte {bit // 8} flipped")


@pytest.mark.parametrize("value", [0x00, 0x7F, 0x80, 0xC0, 0xFF])
def test_every_replaced_byte_is_refused(receipt: bytes, voters: VotersOf, value: int):
    for place in range(len(receipt)):
        if receipt[place] != value:
            changed = receipt[:place] + bytes([value]) + receipt[place + 1 :]
            refused(changed, voters, f"byte {place} set to {value}")


def test_every_missing_doubled_or_inserted_byte_is_refused(receipt: bytes, voters: VotersOf):
    for place in range(len(receipt)):
        head, tail = receipt[:place], receipt[place:]
        refused(head, voters, f"cut to {place} bytes")
        refused(head + tail[1:], voters, f"byte {place} left out")
        refused(head + tail[:1] + tail, voters, f"byte {place} doubled")
        refused(head + b"\0" + tail, voters, f"a zero inserted at {place}")
    refused(receipt + b"\0", voters, "a byte appended")


def test_another_network_or_set_refuses_it(receipt: bytes, genesis: Genesis):
    ours = genesis.validators
    others = ValidatorSet(epoch=0, members=ours.members[::-1])
    for network_id, validators in ((bytes(32), ours), (genesis.network_id, others)):
        voters = Voters(validators, network_id)
        with pytest.raises(ProofError, match=r"signature of validator|not a quorum"):
            verify_receipt(receipt, lambda _, voters=voters: voters, verify_consensus)


def refused(data: bytes, voters: VotersOf, change: str) -> None:
    try:
        verify_receipt(data, voters, verify_consensus)
    except (DecodeError, ProofError):
        return
    pytest.fail(f"it still verifies: {change}")
