import pytest

from protocol.codec import decode, digest_of, encode, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.errors import DecodeError, ProofError
from protocol.identity import verify_consensus
from protocol.merkle import merkle_root
from protocol.records.statement import (
    MAX_STATEMENT_ITEMS,
    Statement,
    StatementItem,
    items_root,
    statement_payload,
)
from tests.support import World, make_observation, make_verdict, replaced

WORLD = World()
VERDICT = make_verdict(sha256(b"submission"))
OBSERVATION = make_observation(1)
ADMISSION = WORLD.signed()


def test_the_items_of_a_statement_are_the_signed_ones() -> None:
    statement = WORLD.statement(0, ADMISSION, VERDICT, OBSERVATION)
    statement.check_root()
    for items in (
        (VERDICT, ADMISSION, OBSERVATION),
        (ADMISSION, VERDICT),
        (ADMISSION, VERDICT, OBSERVATION, OBSERVATION),
        (ADMISSION, replaced(VERDICT, score=2), OBSERVATION),
    ):
        with pytest.raises(ProofError, match=r"statement 1 of validator 0"):
            replaced(statement, items=items).check_root()


def test_the_root_is_over_the_encoded_items() -> None:
    items = (ADMISSION, VERDICT)
    assert items_root(items) == merkle_root([encode(ADMISSION), encode(VERDICT)])


def test_items_are_told_apart_by_their_tag() -> None:
    statement = WORLD.statement(1, OBSERVATION, VERDICT, ADMISSION)
    assert decode(Statement, encode(statement)) == statement
    for item, tag in ((ADMISSION, b"admit"), (VERDICT, b"verdict"), (OBSERVATION, b"observe")):
        assert encode(item)[2 : 2 + len(tag)] == tag
        assert decode(StatementItem, encode(item)) == item


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 1},
        {"signer": 1},
        {"counter": 8},
        {"clock_ms": 1},
        {"items_root": bytes(32)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_field_of_the_header_is_signed(changes: dict) -> None:
    statement = WORLD.statement(0, VERDICT, counter=7)
    key = WORLD.voters.key(0)
    payload = statement_payload(WORLD.voters.domain, statement.header, key)
    assert verify_consensus(key, payload, statement.signature)
    changed = replaced(statement.header, **changes)
    payload = statement_payload(WORLD.voters.domain, changed, key)
    assert not verify_consensus(key, payload, statement.signature)


def test_a_statement_is_signed_as_a_vote_of_its_own_kind() -> None:
    statement = WORLD.statement(0, VERDICT, counter=7)
    key = WORLD.voters.key(0)
    fields = {"view": 0, "seq": 7, "digest": digest_of(statement.header), "signer": key}
    domain = WORLD.voters.domain
    expected = vote_payload(domain, VoteKind.STATEMENT, **fields)
    assert statement_payload(domain, statement.header, key) == expected


def test_the_number_of_items_is_bounded() -> None:
    full = WORLD.statement(0, *[VERDICT] * MAX_STATEMENT_ITEMS)
    assert decode(Statement, encode(full)) == full
    for items in ((), (VERDICT,) * (MAX_STATEMENT_ITEMS + 1)):
        with pytest.raises(DecodeError):
            decode(Statement, encode(replaced(full, items=items)))


@pytest.mark.parametrize(
    "header", [{"counter": 0}, {"counter": 2**63}, {"clock_ms": -1}, {"signer": 2**16}], ids=str
)
def test_the_header_is_bounded(header: dict) -> None:
    statement = WORLD.statement(0, VERDICT)
    changed = replaced(statement, header=replaced(statement.header, **header))
    with pytest.raises(DecodeError):
        decode(Statement, encode(changed))


@pytest.mark.parametrize("changes", [{"score": -1}, {"score": 1_000_001}, {"outcome_class": ""}])
def test_a_verdict_is_bounded(changes: dict) -> None:
    with pytest.raises(DecodeError):
        decode(StatementItem, encode(replaced(VERDICT, **changes)))
