"""Keys and signatures.

- A **hotkey** (sr25519, shown as ss58) is the on-chain identity of validators, miners and the
  owner. Its signatures are randomised, so ids hash the unsigned content, never a signature.
- A **consensus key** (ed25519) votes. One implementation is named, libsodium through PyNaCl,
  because libraries differ on edge cases and a vote must be valid everywhere or nowhere.

Wallets sign arbitrary text wrapped in `<Bytes>...</Bytes>`, and the sr25519 library accepts that
form as well. A node does not: one message has one signed form.
"""

from __future__ import annotations

from bittensor_core import Keypair, decode_ss58, encode_ss58
from nacl.bindings import crypto_sign_BYTES
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import KeyFormatError, SignatureError

SS58_FORMAT = 42
"""The address format of Substrate chains without one of their own; Bittensor uses it."""


def ss58_of(hotkey: bytes) -> str:
    """Return the ss58 address of a 32-byte hotkey."""
    return str(encode_ss58(hotkey, SS58_FORMAT))


def hotkey_of(address: str) -> bytes:
    """Return the 32-byte public key behind an ss58 address; `KeyFormatError` if it is not one."""
    try:
        hotkey = bytes(decode_ss58(address))
    except ValueError as error:
        raise KeyFormatError(f"{address!r} is not an ss58 address: {error}") from error
    if ss58_of(hotkey) != address:
        raise KeyFormatError(
            f"{address!r} is an address of another chain format than {SS58_FORMAT}"
        )
    return hotkey


class Hotkey:
    """An sr25519 key pair made from a 32-byte seed."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise KeyFormatError(f"a hotkey seed has 32 bytes, not {len(seed)}")
        self._pair = Keypair.create_from_seed(seed)
        self.public_key: bytes = bytes(self._pair.public_key)

    @property
    def address(self) -> str:
        """The ss58 address."""
        return ss58_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return a 64-byte signature; two calls give two different ones."""
        return bytes(self._pair.sign(message))


def verify_hotkey(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise `SignatureError` unless `signature` is the hotkey's own over exactly `message`."""
    pair = Keypair(ss58_address=ss58_of(public_key))
    try:
        valid = pair.verify(message, signature) and not pair.verify(
            b"<Bytes>" + message + b"</Bytes>", signature
        )
    except (ValueError, TypeError) as error:
        raise SignatureError(f"hotkey {pair.ss58_address}: {error}") from error
    if not valid:
        raise SignatureError(f"hotkey {pair.ss58_address} did not sign this message")


class ConsensusKey:
    """An ed25519 key pair made from a 32-byte seed; signatures are deterministic."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise KeyFormatError(f"a consensus key seed has 32 bytes, not {len(seed)}")
        self._key = SigningKey(seed)
        self.public_key = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._key.sign(message).signature


def verify_consensus(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether libsodium accepts the ed25519 `signature`."""
    if len(signature) != crypto_sign_BYTES or len(public_key) != 32:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True
