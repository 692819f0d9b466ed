"""Certificates: building one from votes, and judging one that came from elsewhere.

Rules:
1. A certificate counts distinct signers of one epoch's set; its weight must be a quorum.
3. It holds one kind of vote of one view for one header; the set hash and the network id are part of
   the signed bytes, so votes of another set, epoch, kind or network do not verify.
12. Its slot is one of the set's own epoch, or former members could decide slots of the present.

One certificate has one encoding: the bitmap has exactly as many bytes as the set needs, no bit
beyond the set, and one signature for each bit, in index order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from consensus.validators import Voters
from protocol.envelope import VoteKind, vote_payload
from protocol.errors import ProofError
from protocol.records.batch import Certificate, Header

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> whether it is valid."""


def bitmap(signers: list[int], size: int) -> bytes:
    """Return the bitmap of `signers` in a set of `size`."""
    bits = bytearray((size + 7) // 8)
    for signer in signers:
        bits[signer // 8] |= 1 << (signer % 8)
    return bytes(bits)


def signers_of(certificate: Certificate, size: int) -> list[int]:
    """Return the signers' indices; `ProofError` if the bitmap does not fit a set of `size`."""
    return signers_of_bitmap(certificate.signers, len(certificate.signatures), size)


def signers_of_bitmap(bits: bytes, signatures: int, size: int) -> list[int]:
    """Return the indices that `bits` names, one for each of so many `signatures`."""
    if len(bits) != (size + 7) // 8:
        raise ProofError(f"certificate bitmap has {len(bits)} bytes for {size} validators")
    signers = [i for i in range(len(bits) * 8) if bits[i // 8] >> (i % 8) & 1]
    if signers and signers[-1] >= size:
        raise ProofError(f"certificate names validator {signers[-1]} of {size}")
    if len(signers) != signatures:
        raise ProofError(f"certificate has {signatures} signatures for {len(signers)} signers")
    return signers


def build_certificate(
    voters: Voters,
    header: Header,
    kind: Literal["prepare", "commit"],
    view: int,
    signatures: Mapping[int, bytes],
) -> Certificate:
    """Return the smallest certificate: heaviest signers first, until they are a quorum.

    No signature in it can be left out, which makes a receipt's bytes all needed.
    """
    chosen = voters.smallest_quorum(signatures)
    return Certificate(
        header=header,
        kind=kind,
        view=view,
        signers=bitmap(chosen, len(voters)),
        signatures=tuple(signatures[signer] for signer in chosen),
    )


def judge_certificate(
    voters: Voters,
    certificate: Certificate,
    kind: Literal["prepare", "commit"],
    verify: Verify,
) -> None:
    """Raise `ProofError` unless `certificate` is a quorum's votes of `kind` in this set."""
    if certificate.kind != kind:
        raise ProofError(f"a {certificate.kind} certificate where a {kind} one is needed")
    if certificate.header.epoch != voters.epoch:
        raise ProofError(
            f"certificate of epoch {certificate.header.epoch}, judged in {voters.epoch}"
        )
    voters.check_decides(certificate.header.seq)
    signers = signers_of(certificate, len(voters))
    if not voters.is_quorum(signers):
        raise ProofError(
            f"certificate weight {voters.weight_of(signers)} of {voters.total} is not a quorum"
        )
    digest = certificate.header.digest
    for signer, signature in zip(signers, certificate.signatures, strict=True):
        payload = vote_payload(
            voters.domain,
            VoteKind(kind),
            view=certificate.view,
            seq=certificate.header.seq,
            digest=digest,
            signer=voters.key(signer),
        )
        if not verify(voters.key(signer), payload, signature):
            raise ProofError(f"signature of validator {signer} in the certificate is not valid")


def judge_minimal(voters: Voters, certificate: Certificate) -> None:
    """Raise `ProofError` if some signature could be left out: receipts hold needed bytes only."""
    signers = signers_of(certificate, len(voters))
    for signer in signers:
        if voters.is_quorum([other for other in signers if other != signer]):
            raise ProofError(f"the signature of validator {signer} is not needed")
