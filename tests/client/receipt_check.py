"""Verifies a receipt by the six steps of docs/protocol.md, section 10, and nothing else.

It imports nothing of the product: msgpack, and PyNaCl for ed25519.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

MAX_RECEIPT_BYTES = 262_144


class NotProvedError(Exception):
    """The receipt does not prove its result; the text names the step."""


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def pack(value: Any) -> bytes:
    return msgpack.packb(value, use_bin_type=True)


def require(holds: bool, why: str) -> None:
    if not holds:
        raise NotProvedError(why)


def check(data: bytes, genesis: bytes) -> list[Any]:
    """Return the fields of the result that `data` proves."""
    require(len(data) <= MAX_RECEIPT_BYTES, "step 1: too large")
    try:
        receipt = msgpack.unpackb(data, use_list=True)
        require(pack(receipt) == data, "step 1: not canonical")
        result, proof, body, certificate = receipt
        _check_parts(result, proof, body, certificate, genesis)
    except (ValueError, TypeError, AttributeError, OverflowError, msgpack.UnpackException) as error:
        raise NotProvedError(f"step 1: {error!r}") from error
    return result


def _check_parts(
    result: list[Any], proof: list[Any], body: list[Any], certificate: list[Any], genesis: bytes
) -> None:
    _, members = msgpack.unpackb(genesis)[5]
    siblings, other = proof
    header, kind, view, bitmap, signatures = certificate
    epoch = header[0]
    require(other is None and kind == "commit", "step 1: form")
    require(climb(b"result/" + result[0], pack(result), siblings) == body[0], "step 2: state")
    require(sha256(pack(body)) == header[3], "step 3: body")
    require(result[6] <= result[7] < header[1], "step 3: a state of later than the slot")
    require(result[5] <= epoch, "step 3: a result of a later epoch")
    require(len(bitmap) == (len(members) + 7) // 8, "step 4: length of the bitmap")
    signers = [i for i in range(8 * len(bitmap)) if bitmap[i // 8] >> (i % 8) & 1]
    require(all(i < len(members) for i in signers), "step 4: bit beyond the set")
    require(len(signers) == len(signatures), "step 4: number of signatures")
    start = b"validator/v1\0commit\0" + sha256(genesis) + epoch.to_bytes(8, "big")
    start += sha256(pack([epoch, members])) + view.to_bytes(8, "big") + header[1].to_bytes(8, "big")
    start += sha256(pack(header))
    for signer, signature in zip(signers, signatures, strict=True):
        key = members[signer][1]
        try:
            VerifyKey(key).verify(start + key, signature)
        except BadSignatureError as error:
            raise NotProvedError(f"step 4: signature of validator {signer}") from error
    weights = voting_weights([weight for _, _, weight in members])
    require(is_quorum(signers, weights), "step 5: no quorum")
    for signer in signers:
        others = [i for i in signers if i != signer]
        require(not is_quorum(others, weights), f"step 6: validator {signer} is superfluous")


def climb(key: bytes, value: bytes, siblings: list[bytes]) -> bytes:
    """Step 2: the root above `key`."""
    require(not siblings or siblings[-1] != bytes(32), "step 2: empty lowest sibling")
    place = sha256(key)
    bits = f"{int.from_bytes(place, 'big'):0256b}"
    node = sha256(b"\2", place, sha256(value))
    for depth in reversed(range(len(siblings))):
        pair = (node, siblings[depth]) if bits[depth] == "0" else (siblings[depth], node)
        node = sha256(b"\3", *pair)
    return node


def voting_weights(weights: list[int]) -> list[int]:
    """Step 5: the weights after the cap, found by trying; fine for the small numbers of tests."""
    if len(weights) < 5:
        return weights

    def capped(cap: int) -> int:
        return sum(min(weight, cap) for weight in weights)

    tried = range(max(weights) + 1)
    quarter = max(c for c in tried if 4 * c <= capped(c))
    half = min(c for c in tried if 2 * capped(c) >= sum(weights))
    return [min(weight, max(quarter, half)) for weight in weights]


def is_quorum(signers: list[int], weights: list[int]) -> bool:
    return 3 * sum(weights[i] for i in signers) > 2 * sum(weights)
