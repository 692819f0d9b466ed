"""Signed extrinsics: their outer form, how long they live, and who signed them. Pure.

Rules:
1. Only signed extrinsics of version 4 with an sr25519 signature and without a metadata hash are
   taken; that is what the SDK sends.
2. What is signed is not sent whole: the node adds the versions, the genesis and the hash of the
   block at which the extrinsic's life begins. So another runtime, another chain or another fork
   shows as a bad signature.
3. The bytes of the call and of the extensions are used as they came, never encoded again.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.devchain.calls import Call
from chain.devchain.commits import MAX_COMMIT_BYTES
from chain.devchain.errors import RpcError, invalid
from chain.devchain.metadata import SPEC_VERSION, TRANSACTION_VERSION, Codec
from chain.devchain.scale import Reader, ScaleError, blake2_256, compact
from protocol.errors import SignatureError
from protocol.identity import verify_hotkey

UNDECODABLE = 1002
_SIGNED_V4 = 0x84
_ADDRESS_ID = 0
_SR25519 = 1
_PAYLOAD_HASHED_ABOVE = 256
_MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Mortality:
    """How long an extrinsic may be included: `period` blocks from its birth; 0 is for ever."""

    period: int = 0
    phase: int = 0

    def birth(self, block: int) -> int:
        """Return the block at which its life begins, seen from `block`."""
        if self.period == 0:
            return 0
        return (max(block, self.phase) - self.phase) // self.period * self.period + self.phase

    def is_alive(self, birth: int, block: int) -> bool:
        """Return whether it may still be included in `block`."""
        return self.period == 0 or block < birth + self.period


@dataclass(frozen=True, slots=True)
class Extrinsic:
    """A parsed extrinsic. `extra` is what the extensions sent along, `tip` is in rao."""

    data: bytes
    hash: bytes
    signer: bytes
    signature: bytes
    mortality: Mortality
    nonce: int
    tip: int
    extra: bytes
    call: Call

    def payload(self, genesis_hash: bytes, birth_hash: bytes) -> bytes:
        """Return the bytes that must have been signed."""
        implied = (
            SPEC_VERSION.to_bytes(4, "little")
            + TRANSACTION_VERSION.to_bytes(4, "little")
            + genesis_hash
            + birth_hash
            + b"\x00"  # no metadata hash
        )
        payload = self.call.data + self.extra + implied
        return blake2_256(payload) if len(payload) > _PAYLOAD_HASHED_ABOVE else payload

    def check_signature(self, genesis_hash: bytes, birth_hash: bytes) -> None:
        """Raise `PoolRefusedError` unless the signer signed this, here."""
        try:
            verify_hotkey(self.signer, self.payload(genesis_hash, birth_hash), self.signature)
        except SignatureError as error:
            raise invalid("Transaction has a bad signature") from error


def parsed(data: bytes, codec: Codec) -> Extrinsic:
    """Return the extrinsic in `data`; `RpcError` if it is none that this chain takes."""
    if len(data) > _MAX_BYTES:
        raise RpcError(UNDECODABLE, f"extrinsic of {len(data)} bytes, {_MAX_BYTES} is the limit")
    try:
        return _parsed(data, codec)
    except (ScaleError, ValueError, KeyError) as error:
        raise RpcError(UNDECODABLE, "Verification Error: extrinsic", str(error)) from error


def _parsed(data: bytes, codec: Codec) -> Extrinsic:
    reader = Reader(data)
    length = reader.compact("length")
    body = reader.rest()
    if length != len(body):
        raise ScaleError(f"length {length} announced, {len(body)} bytes follow")
    reader = Reader(body)
    _require(reader, _SIGNED_V4, "version (only signed extrinsics of version 4)")
    _require(reader, _ADDRESS_ID, "address kind (only account ids)")
    signer = reader.take(32, "signer")
    _require(reader, _SR25519, "signature kind (only sr25519)")
    signature = reader.take(64, "signature")
    extended = Reader(reader.rest())
    mortality, extra = _mortality(extended)
    nonce, tip = extended.compact("nonce"), extended.compact("tip")
    _require(extended, 0, "metadata hash mode (only disabled)")
    call_data = extended.rest()
    return Extrinsic(
        data=data,
        hash=blake2_256(data),
        signer=signer,
        signature=signature,
        mortality=mortality,
        nonce=nonce,
        tip=tip,
        extra=extra + compact(nonce) + compact(tip) + b"\x00",
        call=_call(call_data, codec, signer),
    )


def _call(data: bytes, codec: Codec, signer: bytes) -> Call:
    call = Call.decoded(codec.call(data), data, signer)
    if "commit" in call.arguments and len(call.ciphertext) > MAX_COMMIT_BYTES:
        raise ScaleError(f"commit of {len(call.ciphertext)} bytes, {MAX_COMMIT_BYTES} at most")
    return call


def _mortality(reader: Reader) -> tuple[Mortality, bytes]:
    first = reader.take(1, "mortality")
    if first == b"\x00":
        return Mortality(), first
    both = first + reader.take(1, "mortality")
    encoded = int.from_bytes(both, "little")
    period = 2 << (encoded % 16)
    step = max(1, period >> 12)
    phase = (encoded >> 4) * step
    if not 4 <= period <= 1 << 16 or phase >= period:
        raise ScaleError(f"mortality {both.hex()}: period {period}, phase {phase}")
    return Mortality(period, phase), both


def _require(reader: Reader, wanted: int, what: str) -> None:
    found = reader.take(1, what)[0]
    if found != wanted:
        raise ScaleError(f"{what}: {found}, want {wanted}")
