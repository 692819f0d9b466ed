"""The arithmetic of rules 1, 3 and 13 once more, written apart from `consensus`.

The checks judge certificates with this, so that a mutant of the engine's arithmetic cannot talk
itself out of them.
"""

from __future__ import annotations

from functools import lru_cache

from protocol.codec import encode, sha256
from protocol.records.batch import Certificate, Header
from protocol.records.validators import ValidatorSet
from tests.simulation.signing import NETWORK, keyed_verify


@lru_cache(maxsize=4096)
def effective(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Rule 13 by trying every cap."""
    if len(weights) < 5:
        return weights
    c1 = c2 = None
    for cap in range(max(weights) + 1):
        held = sum(min(w, cap) for w in weights)
        if 4 * cap <= held:
            c1 = cap
        if c2 is None and 2 * held >= sum(weights):
            c2 = cap
    return tuple(min(w, max(c1, c2)) for w in weights)


class Judge:
    """One epoch's set, its quorums, and whether a certificate holds in it."""

    def __init__(self, validators: ValidatorSet) -> None:
        self.keys = [member.consensus_key for member in validators.members]
        self.weights = effective(tuple(member.weight for member in validators.members))
        self.total = sum(self.weights)
        self.prefix = NETWORK + validators.epoch.to_bytes(8, "big") + sha256(encode(validators))
        self.epoch = validators.epoch

    def is_quorum(self, signers) -> bool:
        return 3 * sum(self.weights[signer] for signer in set(signers)) > 2 * self.total

    def signed(self, kind: str, view: int, seq: int, digest: bytes, signer: int) -> bytes:
        numbers = view.to_bytes(8, "big") + seq.to_bytes(8, "big")
        head = b"validator/v1\0" + kind.encode() + b"\0"
        return head + self.prefix + numbers + digest + self.keys[signer]

    def holds(self, certificate: Certificate, kind: str) -> bool:
        header: Header = certificate.header
        if certificate.kind != kind or header.epoch != self.epoch:
            return False
        bits = int.from_bytes(certificate.signers, "little")
        signers = [i for i in range(len(certificate.signers) * 8) if bits >> i & 1]
        if len(signers) != len(certificate.signatures) or signers[-1:] >= [len(self.keys)]:
            return False
        digest = sha256(encode(header))
        return self.is_quorum(signers) and all(
            keyed_verify(
                self.keys[signer],
                self.signed(kind, certificate.view, header.seq, digest, signer),
                signature,
            )
            for signer, signature in zip(signers, certificate.signatures, strict=True)
        )
