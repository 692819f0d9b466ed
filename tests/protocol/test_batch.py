import pytest
from hypothesis import given
from msgspec import msgpack

from protocol.codec import decode, encode, sha256
from protocol.errors import DecodeError
from protocol.merkle import merkle_root
from protocol.records.batch import MAX_BATCH_ITEMS, Batch, BodyCommitment, Certificate, Header
from tests.protocol.strategies import batches
from tests.support import World, make_challenge, make_verdict, replaced

WORLD = World()
FIRST = WORLD.statement(0, make_verdict(sha256(b"one")))
SECOND = WORLD.change(1, make_challenge("gamma"))
BATCH = Batch(state_root=sha256(b"root"), actions=(FIRST, SECOND))
HEADER = Header(epoch=0, seq=1, parent=sha256(b"parent"), body_root=BATCH.body_root())


def test_the_body_root_commits_to_root_count_and_actions() -> None:
    commitment = BodyCommitment(
        state_root=sha256(b"root"),
        action_count=2,
        actions_root=merkle_root([encode(FIRST), encode(SECOND)]),
    )
    assert BATCH.commitment() == commitment
    assert BATCH.body_root() == sha256(encode(commitment))


@pytest.mark.parametrize(
    "other",
    [
        replaced(BATCH, state_root=bytes(32)),
        replaced(BATCH, actions=(SECOND, FIRST)),
        replaced(BATCH, actions=(FIRST,)),
        replaced(BATCH, actions=(FIRST, SECOND, SECOND)),
        replaced(BATCH, actions=()),
        replaced(BATCH, actions=(replaced(FIRST, signature=bytes(64)), SECOND)),
    ],
    ids=["root", "order", "missing", "repeated", "empty", "signature"],
)
def test_another_body_has_another_root(other: Batch) -> None:
    assert other.body_root() != BATCH.body_root()


@given(batches, batches)
def test_equal_roots_mean_equal_bodies(first: Batch, second: Batch) -> None:
    assert (first.body_root() == second.body_root()) == (first == second)


@pytest.mark.parametrize(
    "changes",
    [{"epoch": 1}, {"seq": 2}, {"parent": bytes(32)}, {"body_root": bytes(32)}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_covers_the_whole_header(changes: dict) -> None:
    assert HEADER.digest == sha256(encode(HEADER))
    assert replaced(HEADER, **changes).digest != HEADER.digest


def test_the_header_does_not_know_the_view() -> None:
    """The same batch proposed again in a later view has the same digest."""
    assert Header.__struct_fields__ == ("epoch", "seq", "parent", "body_root")
    certificates = [WORLD.certificate(HEADER, view=view) for view in (0, 3)]
    assert {certificate.header.digest for certificate in certificates} == {HEADER.digest}
    assert certificates[0].signatures != certificates[1].signatures


def test_slots_count_from_one() -> None:
    with pytest.raises(DecodeError):
        decode(Header, encode(replaced(HEADER, seq=0)))


def test_an_unknown_action_makes_the_batch_unreadable() -> None:
    fields = msgpack.decode(encode(BATCH))
    assert decode(Batch, msgpack.encode(fields)) == BATCH
    for tag in ("reveal", "job", "transfer"):
        changed = [fields[0], [[tag, *fields[1][0][1:]]]]
        with pytest.raises(DecodeError):
            decode(Batch, msgpack.encode(changed))


def test_the_number_of_actions_is_bounded() -> None:
    full = replaced(BATCH, actions=(FIRST,) * MAX_BATCH_ITEMS)
    assert decode(Batch, encode(full)) == full
    with pytest.raises(DecodeError):
        decode(Batch, encode(replaced(BATCH, actions=(FIRST,) * (MAX_BATCH_ITEMS + 1))))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "reject"},
        {"kind": "vote"},
        {"signers": b""},
        {"signers": bytes(33)},
        {"signatures": ()},
        {"signatures": (bytes(63),)},
        {"view": -1},
    ],
    ids=str,
)
def test_what_is_no_certificate_cannot_be_read(changes: dict) -> None:
    certificate = WORLD.certificate(HEADER)
    assert decode(Certificate, encode(certificate)) == certificate
    with pytest.raises(DecodeError):
        decode(Certificate, encode(replaced(certificate, **changes)))
