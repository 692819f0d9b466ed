from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import sha256
from protocol.envelope import (
    RecordKind,
    VoteDomain,
    VoteKind,
    record_payload,
    seed_of,
    vote_payload,
)
from protocol.errors import SignatureError
from protocol.identity import ConsensusKey, Hotkey, verify_consensus, verify_hotkey

NETWORK, SET_HASH, DIGEST, SIGNER = (bytes([n]) * 32 for n in range(4))
DOMAIN = VoteDomain(network_id=NETWORK, epoch=7, set_hash=SET_HASH)
few = st.sampled_from
words = few([bytes([n]) * 32 for n in range(3)])
numbers = few([0, 1, 256, 2**32, 2**63 - 1])
record_fields = st.tuples(few(list(RecordKind)), words, words)
vote_fields = st.tuples(few(list(VoteKind)), words, numbers, words, numbers, numbers, words, words)


def vote(fields: tuple) -> bytes:
    kind, network_id, epoch, set_hash, view, seq, digest, signer = fields
    domain = VoteDomain(network_id=network_id, epoch=epoch, set_hash=set_hash)
    return vote_payload(domain, kind, view=view, seq=seq, digest=digest, signer=signer)


def test_the_layout_of_a_vote() -> None:
    payload = vote_payload(DOMAIN, VoteKind.COMMIT, view=2, seq=3, digest=DIGEST, signer=SIGNER)
    assert payload == (
        b"validator/v1\0commit\0"
        + NETWORK
        + bytes.fromhex("0000000000000007")
        + SET_HASH
        + bytes.fromhex("0000000000000002")
        + bytes.fromhex("0000000000000003")
        + DIGEST
        + SIGNER
    )


def test_the_layout_of_a_record() -> None:
    payload = record_payload(RecordKind.SUBMISSION, NETWORK, DIGEST)
    assert payload == b"validator/v1\0submission\0" + NETWORK + DIGEST


@given(vote_fields, vote_fields)
def test_no_two_votes_share_bytes(first: tuple, second: tuple) -> None:
    assert (vote(first) == vote(second)) == (first == second)


@given(vote_fields, st.data())
def test_each_field_of_a_vote_is_signed(fields: tuple, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(fields) - 1))
    choices = (list(VoteKind), words, numbers, words, numbers, numbers, words, words)[place]
    other = data.draw(few(choices) if isinstance(choices, list) else choices)
    changed = (*fields[:place], other, *fields[place + 1 :])
    assert (vote(changed) == vote(fields)) == (changed == fields)


@given(record_fields, record_fields)
def test_no_two_records_share_bytes(first: tuple, second: tuple) -> None:
    assert (record_payload(*first) == record_payload(*second)) == (first == second)


@given(record_fields, vote_fields)
def test_a_record_is_never_a_vote(record: tuple, fields: tuple) -> None:
    assert record_payload(*record) != vote(fields)


def test_the_kinds_have_different_names_and_no_separator() -> None:
    kinds = [*RecordKind, *VoteKind]
    assert len(set(kinds)) == len(kinds) == 11
    assert all(kind.isascii() and "\0" not in kind for kind in kinds)


@pytest.mark.parametrize(("made", "used"), list(permutations(VoteKind, 2)))
def test_a_signature_of_one_kind_of_vote_is_worthless_for_another(made, used) -> None:
    key = ConsensusKey(bytes(32))
    fields = {"view": 0, "seq": 1, "digest": DIGEST, "signer": key.public_key}
    signature = key.sign(vote_payload(DOMAIN, made, **fields))
    assert verify_consensus(key.public_key, vote_payload(DOMAIN, made, **fields), signature)
    assert not verify_consensus(key.public_key, vote_payload(DOMAIN, used, **fields), signature)


@pytest.mark.parametrize(("made", "used"), list(permutations(RecordKind, 2)))
def test_a_signature_of_one_kind_of_record_is_worthless_for_another(made, used) -> None:
    hotkey = Hotkey(bytes(32))
    signature = hotkey.sign(record_payload(made, NETWORK, DIGEST))
    verify_hotkey(hotkey.public_key, record_payload(made, NETWORK, DIGEST), signature)
    with pytest.raises(SignatureError):
        verify_hotkey(hotkey.public_key, record_payload(used, NETWORK, DIGEST), signature)


@pytest.mark.parametrize("field", ["view", "seq"])
@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_does_not_fit_cannot_be_signed(field: str, number: int) -> None:
    fields = {"view": 0, "seq": 0, field: number}
    with pytest.raises(OverflowError):
        vote_payload(DOMAIN, VoteKind.PREPARE, digest=DIGEST, signer=SIGNER, **fields)


def test_a_seed_binds_the_batch_and_the_submission() -> None:
    assert seed_of(DIGEST, SIGNER) == sha256(DIGEST + SIGNER)
    assert len({seed_of(DIGEST, SIGNER), seed_of(SIGNER, DIGEST), seed_of(DIGEST, DIGEST)}) == 3
