"""Certificates: what proves a quorum's votes, and everything that does not (rules 1 and 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.certificate import (
    bitmap,
    build_certificate,
    judge_certificate,
    judge_minimal,
    signers_of,
)
from consensus.validators import Voters
from protocol.codec import decode, encode
from protocol.errors import ProofError
from protocol.records.batch import Certificate
from tests.consensus.builders import (
    NETWORK,
    Signers,
    make_header,
    make_set,
    make_voters,
    patient,
    replaced,
    verify,
)

VOTERS = make_voters(310, 270, 230, 190)
SIGNERS = Signers(VOTERS)
X = make_header("x")


def refused(certificate: Certificate, kind: str = "commit", voters: Voters = VOTERS) -> str:
    with pytest.raises(ProofError) as caught:
        judge_certificate(voters, certificate, kind, verify)
    return str(caught.value)


@patient
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.data())
def test_rule_1_a_certificate_holds_exactly_when_its_signers_are_a_quorum(weights, data):
    voters = make_voters(*weights)
    chosen = data.draw(st.sets(st.integers(0, len(weights) - 1), min_size=1))
    certificate = Signers(voters).certificate(X, signers=sorted(chosen))
    if voters.is_quorum(chosen):
        judge_certificate(voters, certificate, "commit", verify)
    else:
        assert "not a quorum" in refused(certificate, voters=voters)


@pytest.mark.parametrize(
    ("weights", "signers", "holds"),
    [
        ((1,), [0], True),
        ((1, 1), [0], False),
        ((1, 1, 1), [0, 1], False),  # exactly two thirds
        ((1, 1, 1), [0, 1, 2], True),
        ((2, 1, 3), [0, 2], True),
        ((333, 333, 334), [0, 2], True),
        ((333, 333, 333), [0, 2], False),
        ((2**63 - 1, 2**63 - 1, 2**63 - 1), [0, 1], False),
        ((2**63 - 1, 2**63 - 1, 2**63 - 2), [0, 1], True),
    ],
)
def test_rule_1_boundary_weights(weights, signers, holds):
    voters = make_voters(*weights)
    certificate = Signers(voters).certificate(X, signers=signers)
    if holds:
        judge_certificate(voters, certificate, "commit", verify)
    else:
        refused(certificate, voters=voters)


def test_rule_1_a_duplicate_signer_needs_a_bit_of_its_own():
    once = SIGNERS.certificate(X, signers=[0, 1])
    twice = replaced(once, signatures=(*once.signatures, once.signatures[1]))
    assert "3 signatures for 2 signers" in refused(twice)


def test_rule_3_a_spoofed_signer_does_not_verify():
    honest = SIGNERS.certificate(X, signers=[0, 1, 2])
    spoofed = replaced(honest, signers=bitmap([0, 1, 3], 4))
    assert "signature of validator 3" in refused(spoofed)
    swapped = replaced(honest, signatures=honest.signatures[::-1])
    assert "signature of validator 0" in refused(swapped)


def test_rule_3_votes_of_another_set_do_not_verify():
    other = make_voters(310, 270, 230, 191)
    refused(Signers(other).certificate(X))


def test_rule_3_votes_of_another_epoch_do_not_verify():
    later = make_voters(310, 270, 230, 190, epoch=1)
    header = make_header("x", epoch=1)
    certificate = Signers(later).certificate(header)
    assert "certificate of epoch 1, judged in 0" in refused(certificate)
    relabelled = replaced(certificate, header=replaced(header, epoch=0))
    assert "signature of validator" in refused(relabelled)
    judge_certificate(later, certificate, "commit", verify)


def test_rule_3_votes_of_another_network_do_not_verify():
    members = make_set({f"v{i}": w for i, w in enumerate((310, 270, 230, 190))})
    there = Signers(Voters(members, bytes(32)))
    here = Voters(members, NETWORK)
    assert "signature of validator 0" in refused(there.certificate(X), voters=here)


@pytest.mark.parametrize(("is_kind", "wanted"), [("prepare", "commit"), ("commit", "prepare")])
def test_rule_3_one_kind_does_not_stand_for_the_other(is_kind, wanted):
    certificate = SIGNERS.certificate(X, is_kind)
    assert f"a {is_kind} certificate where a {wanted}" in refused(certificate, wanted)
    relabelled = replaced(certificate, kind=wanted)
    assert "signature of validator" in refused(relabelled, wanted)


def test_rule_3_rejects_do_not_make_a_prepared_certificate():
    rejects = tuple(SIGNERS.signature("reject", i, 0, 1, X.digest) for i in range(4))
    certificate = replaced(SIGNERS.certificate(X, "prepare", signers=range(4)), signatures=rejects)
    assert "signature of validator 0" in refused(certificate, "prepare")


def test_rule_2_votes_of_two_views_do_not_add_up():
    first, second = SIGNERS.certificate(X, signers=[0, 1, 2]), SIGNERS.certificate(X, view=1)
    mixed = replaced(first, signatures=(*first.signatures[:2], second.signatures[2]))
    assert "signature of validator 2" in refused(mixed)
    assert "signature of validator 0" in refused(replaced(first, view=1))


@pytest.mark.parametrize("bits", [b"\x07\x00", b"\x07\x00\x00"])
def test_bitmap_too_long(bits):
    certificate = SIGNERS.certificate(X, signers=[0, 1, 2])
    assert f"{len(bits)} bytes for 4" in refused(replaced(certificate, signers=bits))


def test_bitmap_too_short():
    voters = make_voters(*[1] * 9)
    certificate = Signers(voters).certificate(X, signers=range(9))
    assert "1 bytes for 9" in refused(replaced(certificate, signers=b"\xff"), voters=voters)


def test_bitmap_beyond_the_set():
    certificate = SIGNERS.certificate(X, signers=[0, 1, 2])
    beyond = replaced(certificate, signers=b"\x17", signatures=(*certificate.signatures, bytes(64)))
    assert "names validator 4 of 4" in refused(beyond)


def test_bitmap_and_signatures_must_match():
    certificate = SIGNERS.certificate(X, signers=[0, 1, 2])
    assert "2 signatures for 3" in refused(
        replaced(certificate, signatures=certificate.signatures[:2])
    )
    assert "0 signatures for 3" in refused(replaced(certificate, signatures=()))


@patient
@given(st.lists(st.integers(1, 9), min_size=1, max_size=24), st.data())
def test_the_built_certificate_is_minimal_and_holds(weights, data):
    voters = make_voters(*weights)
    signers = Signers(voters)
    voted = data.draw(st.sets(st.integers(0, len(weights) - 1)))
    signatures = {i: signers.signature("commit", i, 0, 1, X.digest) for i in voted}
    certificate = build_certificate(voters, X, "commit", 0, signatures)
    assert set(signers_of(certificate, len(voters))) <= voted
    if voters.is_quorum(voted):
        judge_certificate(voters, certificate, "commit", verify)
        judge_minimal(voters, certificate)
        assert decode(Certificate, encode(certificate)) == certificate


def test_a_superfluous_signature_is_no_receipt():
    with pytest.raises(ProofError, match="not needed"):
        judge_minimal(VOTERS, SIGNERS.certificate(X, signers=range(4)))
    judge_minimal(VOTERS, SIGNERS.certificate(X, signers=[0, 1, 2]))
    light = SIGNERS.certificate(X, signers=[1, 2, 3])  # 690 of 1000
    judge_minimal(VOTERS, light)


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


@patient
@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(data: st.DataObject):
    certificate = SIGNERS.certificate(X, signers=[0, 1, 2])
    which = data.draw(st.sampled_from(["parent", "body_root", "seq", "view", "bits", "signature"]))
    if which in ("parent", "body_root"):
        field = _flipped(getattr(X, which), data.draw(st.integers(0, 255)))
        changed = replaced(certificate, header=replaced(X, **{which: field}))
    elif which == "seq":
        bit = data.draw(st.integers(1, 40))
        changed = replaced(certificate, header=replaced(X, seq=X.seq ^ (1 << bit)))
    elif which == "view":
        changed = replaced(certificate, view=1 << data.draw(st.integers(0, 62)))
    elif which == "bits":
        bits = _flipped(certificate.signers, data.draw(st.integers(0, 7)))
        changed = replaced(certificate, signers=bits)
    else:
        place = data.draw(st.integers(0, 2))
        signatures = list(certificate.signatures)
        signatures[place] = _flipped(signatures[place], data.draw(st.integers(0, 511)))
        changed = replaced(certificate, signatures=tuple(signatures))
    refused(changed)
