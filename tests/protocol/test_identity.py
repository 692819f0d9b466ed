import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import KeyFormatError, SignatureError
from protocol.identity import (
    ConsensusKey,
    Hotkey,
    hotkey_of,
    ss58_of,
    verify_consensus,
    verify_hotkey,
)

ALICE = bytes.fromhex("d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d")
ALICE_ADDRESS = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
"""Substrate's development key."""
MESSAGE = b"a message"
HOTKEY = Hotkey(bytes([1]) * 32)
OTHER_HOTKEY = Hotkey(bytes([2]) * 32)
KEY = ConsensusKey(bytes([1]) * 32)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


# --- sr25519 hotkeys -----------------------------------------------------------------------------


@given(st.binary(max_size=100), st.binary(min_size=32, max_size=32))
def test_a_hotkey_verifies_its_own_signature(message: bytes, seed: bytes) -> None:
    hotkey = Hotkey(seed)
    verify_hotkey(hotkey.public_key, message, hotkey.sign(message))


def test_another_hotkey_did_not_sign_it() -> None:
    with pytest.raises(SignatureError, match=OTHER_HOTKEY.address):
        verify_hotkey(OTHER_HOTKEY.public_key, MESSAGE, HOTKEY.sign(MESSAGE))


def test_another_message_was_not_signed() -> None:
    signature = HOTKEY.sign(MESSAGE)
    for message in (MESSAGE + b"\0", MESSAGE[:-1], b""):
        with pytest.raises(SignatureError):
            verify_hotkey(HOTKEY.public_key, message, signature)


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_a_changed_signature_does_not_verify(position: int) -> None:
    signature = bytearray(HOTKEY.sign(MESSAGE))
    signature[position] ^= 0x80
    with pytest.raises(SignatureError):
        verify_hotkey(HOTKEY.public_key, MESSAGE, bytes(signature))


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65), b"\x01" + bytes(64)])
def test_what_is_no_signature_raises_the_same_error(signature: bytes) -> None:
    with pytest.raises(SignatureError):
        verify_hotkey(HOTKEY.public_key, MESSAGE, signature)


def test_a_wrapped_signature_is_refused() -> None:
    signature = HOTKEY.sign(b"<Bytes>" + MESSAGE + b"</Bytes>")
    with pytest.raises(SignatureError):
        verify_hotkey(HOTKEY.public_key, MESSAGE, signature)
    verify_hotkey(HOTKEY.public_key, b"<Bytes>" + MESSAGE + b"</Bytes>", signature)


def test_a_message_that_looks_wrapped_has_its_own_signature() -> None:
    wrapped = b"<Bytes>" + MESSAGE + b"</Bytes>"
    with pytest.raises(SignatureError):
        verify_hotkey(HOTKEY.public_key, wrapped, HOTKEY.sign(MESSAGE))
    with pytest.raises(SignatureError):
        verify_hotkey(HOTKEY.public_key, wrapped, HOTKEY.sign(b"<Bytes>" + wrapped + b"</Bytes>"))


def test_a_public_key_that_is_no_point_signs_nothing() -> None:
    with pytest.raises(SignatureError):
        verify_hotkey(b"\xff" * 32, MESSAGE, HOTKEY.sign(MESSAGE))


def test_signatures_are_randomised_and_keys_are_not() -> None:
    assert HOTKEY.sign(MESSAGE) != HOTKEY.sign(MESSAGE)
    assert Hotkey(bytes([1]) * 32).public_key == HOTKEY.public_key != OTHER_HOTKEY.public_key


# --- addresses -----------------------------------------------------------------------------------


def test_a_known_address() -> None:
    assert ss58_of(ALICE) == ALICE_ADDRESS
    assert hotkey_of(ALICE_ADDRESS) == ALICE


@given(st.binary(min_size=32, max_size=32))
def test_an_address_leads_back_to_its_key(public_key: bytes) -> None:
    assert hotkey_of(ss58_of(public_key)) == public_key


@given(st.integers(0, len(ALICE_ADDRESS) - 1), st.sampled_from("123456789ABCDEFabcdef0OIl é"))
def test_a_mistyped_address_is_refused(position: int, letter: str) -> None:
    mistyped = ALICE_ADDRESS[:position] + letter + ALICE_ADDRESS[position + 1 :]
    if mistyped == ALICE_ADDRESS:
        return
    with pytest.raises(KeyFormatError):
        hotkey_of(mistyped)


@pytest.mark.parametrize("address", ["", "5", ALICE_ADDRESS[:-1], ALICE_ADDRESS * 2, "5" * 1000])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(KeyFormatError, match="not an ss58 address"):
        hotkey_of(address)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_has_32_bytes(size: int) -> None:
    with pytest.raises(KeyFormatError, match=f"not {size}"):
        Hotkey(bytes(size))
    with pytest.raises(KeyFormatError, match=f"not {size}"):
        ConsensusKey(bytes(size))


# --- ed25519 consensus keys ----------------------------------------------------------------------


def test_a_known_signature() -> None:
    """RFC 8032, 7.1, test 2."""
    key = ConsensusKey(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    public_key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.public_key.hex() == public_key
    assert key.sign(b"\x72") == signature
    assert verify_consensus(key.public_key, b"\x72", signature)


@given(st.binary(max_size=100), st.integers(0, 511))
def test_one_changed_bit_does_not_verify(message: bytes, bit: int) -> None:
    signature = KEY.sign(message)
    assert verify_consensus(KEY.public_key, message, signature)
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    assert not verify_consensus(KEY.public_key, message, bytes(changed))
    assert not verify_consensus(KEY.public_key, message + b"\0", signature)


def test_another_consensus_key_did_not_sign_it() -> None:
    other = ConsensusKey(bytes([2]) * 32)
    assert not verify_consensus(other.public_key, MESSAGE, KEY.sign(MESSAGE))


def test_the_same_signature_in_another_form_is_refused() -> None:
    """S + L gives the same point: a verifier that accepts it makes two signatures of one."""
    signature = KEY.sign(MESSAGE)
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not verify_consensus(
        KEY.public_key, MESSAGE, signature[:32] + scalar.to_bytes(32, "little")
    )


def test_a_key_of_small_order_signs_nothing() -> None:
    """With the neutral element as key, R = neutral and S = 0 would fit every message."""
    neutral = bytes([1]) + bytes(31)
    assert not verify_consensus(neutral, MESSAGE, neutral + bytes(32))


@pytest.mark.parametrize(("key_size", "size"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65)])
def test_wrong_lengths_are_not_valid(key_size: int, size: int) -> None:
    public_key = KEY.public_key.ljust(key_size, b"\0")[:key_size]
    signature = KEY.sign(MESSAGE).ljust(size, b"\0")[:size]
    assert not verify_consensus(public_key, MESSAGE, signature)
