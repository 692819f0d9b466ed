import pytest

from protocol.codec import decode, encode, sha256
from protocol.envelope import RecordKind, record_payload
from protocol.errors import DecodeError, ProofError, SignatureError
from protocol.records.submission import (
    MAX_INLINE_BODY_BYTES,
    MAX_POSTED_SUBMISSIONS,
    PostedSubmission,
    SignedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from tests.support import World, replaced

WORLD = World()
OTHER_WORLD = World(name="other")


def test_a_signed_submission_verifies() -> None:
    WORLD.signed().verify(WORLD.network_id)


def test_the_id_is_the_hash_of_the_content_not_of_the_signature() -> None:
    submission = WORLD.submission()
    first, second = WORLD.sign(submission), WORLD.sign(submission)
    assert first.signature != second.signature
    assert submission.submission_id == sha256(encode(submission))
    assert first.submission.submission_id == second.submission.submission_id


@pytest.mark.parametrize(
    "changes",
    [
        {"network_id": bytes(32)},
        {"challenge_id": "beta"},
        {"challenge_version": 1},
        {"hotkey": WORLD.miners[1].public_key},
        {"expiry_epoch": 2},
        {"body_hash": bytes(32)},
        {"body_size": 5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_field_is_signed_and_part_of_the_id(changes: dict) -> None:
    signed = WORLD.signed()
    changed = replaced(signed.submission, **changes)
    assert changed.submission_id != signed.submission.submission_id
    with pytest.raises(SignatureError):
        replaced(signed, submission=changed).verify(changed.network_id)


def test_somebody_else_cannot_sign_for_a_miner() -> None:
    forged = WORLD.sign(WORLD.submission(miner=0), by=WORLD.miners[1])
    with pytest.raises(SignatureError):
        forged.verify(WORLD.network_id)


def test_a_submission_to_another_network_is_refused_here() -> None:
    elsewhere = OTHER_WORLD.signed()
    elsewhere.verify(OTHER_WORLD.network_id)
    with pytest.raises(SignatureError, match=OTHER_WORLD.network_id.hex()[:12]):
        elsewhere.verify(WORLD.network_id)


def test_the_signature_names_network_and_kind_even_if_the_content_is_right() -> None:
    submission = WORLD.submission()
    for kind, network_id in (
        (RecordKind.NODE_RECORD, WORLD.network_id),
        (RecordKind.SUBMISSION, OTHER_WORLD.network_id),
    ):
        payload = record_payload(kind, network_id, submission.submission_id)
        signature = WORLD.miners[0].sign(payload)
        with pytest.raises(SignatureError):
            SignedSubmission(submission=submission, signature=signature).verify(WORLD.network_id)


def test_a_body_must_be_the_one_that_was_signed() -> None:
    posted = WORLD.posted(b"body")
    posted.check_body()
    with pytest.raises(ProofError, match="hash"):
        replaced(posted, body=b"ydob").check_body()
    with pytest.raises(ProofError, match="5 bytes, 4 were signed"):
        replaced(posted, body=b"body!").check_body()
    lies_about_size = PostedSubmission(signed=WORLD.signed(b"body", body_size=5), body=b"body")
    with pytest.raises(ProofError, match="4 bytes, 5 were signed"):
        lies_about_size.check_body()


def test_only_a_long_body_travels_by_hash() -> None:
    long = PostedSubmission(signed=WORLD.signed(bytes(MAX_INLINE_BODY_BYTES + 1)), body=b"")
    assert long.travels_by_hash
    long.check_body()
    assert decode(PostedSubmission, encode(long)) == long
    short = PostedSubmission(signed=WORLD.signed(bytes(MAX_INLINE_BODY_BYTES)), body=b"")
    assert not short.travels_by_hash
    with pytest.raises(ProofError, match="0 bytes, 4096 were signed"):
        short.check_body()
    # A part of a long body is no body.
    with pytest.raises(ProofError, match="1 bytes, 4097 were signed"):
        replaced(long, body=b"\0").check_body()
    empty = WORLD.posted(b"")
    assert not empty.travels_by_hash
    empty.check_body()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "sealed"},
        {"challenge_id": "Alpha"},
        {"challenge_id": ""},
        {"challenge_version": 2**32},
        {"expiry_epoch": -1},
        {"hotkey": bytes(33)},
        {"body_hash": bytes(31)},
    ],
    ids=str,
)
def test_what_is_no_submission_cannot_be_read(changes: dict) -> None:
    with pytest.raises(DecodeError):
        decode(Submission, encode(WORLD.submission(**changes)))


def test_a_message_holds_a_bounded_number_of_bounded_bodies() -> None:
    posted = WORLD.posted(bytes(MAX_INLINE_BODY_BYTES))
    full = SubmissionMessage(posted=(posted,) * MAX_POSTED_SUBMISSIONS)
    assert decode(SubmissionMessage, encode(full)) == full
    for message in (
        SubmissionMessage(posted=()),
        SubmissionMessage(posted=(posted,) * (MAX_POSTED_SUBMISSIONS + 1)),
        SubmissionMessage(posted=(WORLD.posted(bytes(MAX_INLINE_BODY_BYTES + 1)),)),
    ):
        with pytest.raises(DecodeError):
            decode(SubmissionMessage, encode(message))


def test_topics_are_per_network_and_challenge() -> None:
    network_id = bytes.fromhex("00112233445566778899") + bytes(22)
    topic = submission_topic(network_id, "alpha")
    assert topic == "/validator/1/0011223344556677/submissions/alpha"
    assert submission_topic(network_id, "beta") != topic
    assert submission_topic(sha256(b"other"), "alpha") != topic
