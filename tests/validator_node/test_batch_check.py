from __future__ import annotations

import pytest

from protocol.actions import Action
from protocol.codec import encode, sha256
from protocol.errors import ProofError, ProtocolError, SignatureError
from protocol.identity import ConsensusKey, verify_consensus
from protocol.records.batch import MAX_BATCH_BYTES, Batch
from protocol.records.challenge_storage import StorageWrite
from protocol.records.metagraph import MetagraphFormError
from protocol.records.statement import MAX_STATEMENT_BYTES, Statement
from tests.support import STRANGER, World, make_challenge, make_verdict, replaced
from validator_node import batch_check
from validator_node.batch_check import Checker, InvalidBatchError, Memo

WORLD = World()
ROOT = sha256(b"root")
VERDICT = make_verdict(sha256(b"submission"))


@pytest.fixture
def checker() -> Checker:
    return Checker(WORLD.voters, WORLD.network_id)


def say(signer: int, *items, counter: int = 1) -> Statement:
    return WORLD.statement(signer, *(items or (VERDICT,)), counter=counter)


def batch(*actions: Action) -> Batch:
    return Batch(state_root=ROOT, actions=actions)


def writes(size: int) -> tuple[StorageWrite, ...]:
    return (StorageWrite(key=b"key", value=bytes(size)),)


# --- statements ----------------------------------------------------------------------------------


def test_a_statement_with_everything_signed_is_valid(checker: Checker) -> None:
    checker.check_statement(say(0, WORLD.signed(), VERDICT))


@pytest.mark.parametrize(
    ("statement", "error", "reason"),
    [
        (replaced(say(0), signature=bytes(64)), InvalidBatchError, "validator 0 did not sign it"),
        (WORLD.statement(0, VERDICT, key=WORLD.keys[1]), InvalidBatchError, "did not sign it"),
        (replaced(say(0), items=(VERDICT, VERDICT)), ProofError, "signed root"),
        (say(0, WORLD.sign(WORLD.submission(), by=STRANGER)), SignatureError, "did not sign"),
        (say(0, World(name="other").signed()), SignatureError, "for network"),
        (World(name="other").statement(0, VERDICT), InvalidBatchError, "did not sign it"),
    ],
    ids=["signature", "other key", "items", "admission", "foreign admission", "network"],
)
def test_what_makes_a_statement_invalid(
    checker: Checker, statement: Statement, error: type[ProtocolError], reason: str
) -> None:
    for _ in range(2):
        with pytest.raises(error, match=reason):
            checker.check_statement(statement)
    with pytest.raises(error, match=reason):
        checker.check_batch(batch(statement), ROOT)


@pytest.mark.parametrize("changes", [{"signer": 4}, {"signer": 65535}, {"epoch": 1}], ids=str)
def test_only_members_of_this_epoch_make_statements(checker: Checker, changes: dict) -> None:
    statement = say(0)
    foreign = replaced(statement, header=replaced(statement.header, **changes))
    with pytest.raises(InvalidBatchError, match="statement of validator"):
        checker.check_statement(foreign)


def test_a_statement_has_at_most_80_kibibytes(checker: Checker) -> None:
    def long(last: int) -> Statement:
        written = [replaced(VERDICT, writes=writes(8190))] * 9
        return say(2, *written, replaced(VERDICT, writes=writes(last)), counter=7)

    room = MAX_STATEMENT_BYTES - len(encode(long(300)))
    assert 0 < room < 8000
    fits, too_long = long(300 + room), long(301 + room)
    assert len(encode(fits)) == MAX_STATEMENT_BYTES
    checker.check_statement(fits)
    reason = "statement 7 of validator 2: 81921 bytes, the limit is 81920"
    with pytest.raises(InvalidBatchError, match=reason):
        checker.check_statement(too_long)
    with pytest.raises(InvalidBatchError, match=reason):
        checker.check_batch(batch(too_long), ROOT)


def test_a_statement_cannot_change_its_signer(checker: Checker) -> None:
    statement = say(0)
    moved = replaced(statement, header=replaced(statement.header, signer=1))
    with pytest.raises(InvalidBatchError, match="validator 1 did not sign"):
        checker.check_statement(moved)


def test_each_signature_is_verified_once(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: bytes) -> bool:
        calls.append(arguments)
        return verify_consensus(*arguments)

    monkeypatch.setattr(batch_check, "verify_consensus", counted)
    statement = say(0)
    for _ in range(3):
        checker.check_statement(statement)
        checker.check_batch(batch(statement), ROOT)
    assert len(calls) == 1


def test_what_was_verified_is_remembered_by_all_its_bytes(checker: Checker) -> None:
    signed = WORLD.signed()
    checker.check_submission(signed)
    with pytest.raises(SignatureError):
        checker.check_submission(replaced(signed, signature=bytes(64)))
    statement = say(0)
    checker.check_statement(statement)
    with pytest.raises(InvalidBatchError):
        checker.check_statement(replaced(statement, signature=bytes(64)))


# --- batches -------------------------------------------------------------------------------------


def test_a_valid_batch(checker: Checker) -> None:
    change = WORLD.change(1, make_challenge("gamma"))
    checker.check_batch(batch(say(0), say(0, counter=2), say(1), change), ROOT)
    checker.check_batch(batch(), ROOT)


def test_the_batch_names_the_expected_root(checker: Checker) -> None:
    other = sha256(b"other")
    with pytest.raises(InvalidBatchError, match=f"{ROOT.hex()[:12]}.*{other.hex()[:12]}"):
        checker.check_batch(batch(say(0)), other)


def test_a_statement_may_be_in_a_batch_once(checker: Checker) -> None:
    for twice in ((say(0), say(0)), (say(0), say(1), say(0, make_verdict(bytes(32))))):
        with pytest.raises(InvalidBatchError, match=r"statement 1 .*twice"):
            checker.check_batch(batch(*twice), ROOT)


def test_a_change_may_be_in_a_batch_once(checker: Checker) -> None:
    gamma = make_challenge("gamma")
    with pytest.raises(InvalidBatchError, match="twice"):
        checker.check_batch(batch(WORLD.change(1, gamma), WORLD.change(1, gamma)), ROOT)


def test_a_metagraph_may_be_in_a_batch_once_and_has_its_form(checker: Checker) -> None:
    metagraph = WORLD.metagraph(1)
    checker.check_batch(batch(say(0), metagraph), ROOT)
    with pytest.raises(InvalidBatchError, match="twice"):
        checker.check_batch(batch(metagraph, WORLD.metagraph(1, block=30)), ROOT)
    backwards = WORLD.metagraph(1, neurons=metagraph.neurons[::-1])
    with pytest.raises(MetagraphFormError, match="follows uid"):
        checker.check_batch(batch(backwards), ROOT)


def test_a_binding_in_a_statement_is_signed_by_both_keys(checker: Checker) -> None:
    good = WORLD.binding(STRANGER, ConsensusKey(sha256(b"fresh")))
    checker.check_statement(say(0, good))
    for field in ("signature", "possession"):
        with pytest.raises(SignatureError):
            checker.check_statement(say(1, replaced(good, **{field: bytes(64)})))


def test_a_change_must_be_signed_by_whom_it_names(checker: Checker) -> None:
    change = WORLD.change(1, make_challenge("gamma"))
    with pytest.raises(SignatureError):
        checker.check_batch(batch(replaced(change, owner=STRANGER.public_key)), ROOT)
    checker.check_batch(batch(WORLD.change(1, change.content.challenge, owner=STRANGER)), ROOT)


def test_a_batch_has_at_most_1024_items(checker: Checker) -> None:
    full = [say(0, *[VERDICT] * 256, counter=counter) for counter in range(1, 5)]
    checker.check_batch(batch(*full), ROOT)
    change = WORLD.change(1, make_challenge("gamma"))
    for one_more in (say(1), change):
        with pytest.raises(InvalidBatchError, match="1025 items"):
            checker.check_batch(batch(*full, one_more), ROOT)


def test_a_batch_has_at_most_256_kibibytes(checker: Checker) -> None:
    longest = {"challenge_id": "a" * 64, "expiry_epoch": 2**62, "challenge_version": 2**31}
    admissions = [WORLD.signed(bytes([n]), **longest) for n in range(256)]
    large = [say(signer, *admissions) for signer in range(4)]
    assert len(encode(batch(*large[:3]))) <= MAX_BATCH_BYTES < len(encode(batch(*large)))
    checker.check_batch(batch(*large[:3]), ROOT)
    with pytest.raises(InvalidBatchError, match="bytes, the limit is 262144"):
        checker.check_batch(batch(*large), ROOT)


def test_one_bad_action_makes_the_batch_invalid(checker: Checker) -> None:
    bad = replaced(say(3), signature=bytes(64))
    with pytest.raises(InvalidBatchError, match="validator 3"):
        checker.check_batch(batch(say(0), say(1), bad), ROOT)


# --- memory --------------------------------------------------------------------------------------


def test_the_memo_forgets_the_oldest() -> None:
    memo = Memo(size=2)
    for entry in (b"a", b"b", b"a", b"c"):
        memo.add(entry)
    assert b"c" in memo
    assert [entry for entry in (b"a", b"b", b"c") if entry in memo] == [b"b", b"c"]


def test_a_new_epoch_has_its_own_voters() -> None:
    world = World()
    checker = Checker(world.voters, world.network_id)
    old = world.statement(0, VERDICT)
    checker.check_statement(old)
    world.begin_epoch(1)
    new = world.statement(0, VERDICT)
    with pytest.raises(InvalidBatchError):
        checker.check_statement(new)
    checker.begin_epoch(world.voters)
    checker.check_statement(new)
    with pytest.raises(InvalidBatchError, match="epoch 0"):
        checker.check_statement(old)
