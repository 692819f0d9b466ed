"""The embedded chain's weights call: what a hotkey signs.

Rules:
1. The signed bytes are `DOMAIN` followed by the canonical encoding of the `WeightsCall`, so that
   they can be mistaken for no other signed thing; the genesis digest binds them to one chain.
2. `nonce` is the number of this hotkey's calls the chain has included before, as an account nonce
   is: a call is included once at most, and never after a later one.
3. uids and values travel as two lists, as in the chain's extrinsic, so that its check of their
   lengths means something here.
"""

from __future__ import annotations

from chain.errors import ChainError, ChainErrorCode
from protocol.codec import U16, U64, Digest, Record, decode, digest_of, encode
from protocol.errors import DecodeError, SignatureError
from protocol.identity import ss58_of, verify_hotkey

DOMAIN = b"chain/embedded/weights-call/1\n"


class WeightsCall(Record, frozen=True):
    """A weights call before it is signed. `genesis` is `ChainGenesis.digest`."""

    genesis: Digest
    netuid: U16
    mechanism: U16
    version_key: U64
    uids: tuple[U16, ...]
    values: tuple[U16, ...]
    nonce: U64

    @property
    def signing_payload(self) -> bytes:
        """The bytes the hotkey signs (rule 1)."""
        return DOMAIN + encode(self)

    @property
    def reference(self) -> str:
        """A short name for logs: signatures are randomised, so it hashes the unsigned call."""
        return digest_of(self).hex()[:16]


def require_well_formed(call: WeightsCall) -> None:
    """Raise `ChainError` malformed_call if a figure is outside its type, which no call can carry.

    A call made by code, not decoded, may hold anything; what is stored must be readable again.
    """
    try:
        decode(WeightsCall, encode(call))
    except (DecodeError, OverflowError) as error:
        raise ChainError(
            ChainErrorCode.MALFORMED_CALL, f"{error}; uids and weights are unsigned 16-bit numbers"
        ) from error


def verify_call(call: WeightsCall, hotkey: bytes, signature: bytes) -> None:
    """Raise `ChainError` BadProof unless `signature` is the hotkey's over exactly this call."""
    try:
        verify_hotkey(hotkey, call.signing_payload, signature)
    except SignatureError as error:
        raise ChainError(
            ChainErrorCode.BAD_PROOF,
            f"call {call.reference} of {ss58_of(hotkey)}: {error}; sign the call's own payload, "
            "not wrapped, with the hotkey that is named",
        ) from error
