import pytest
from msgspec import msgpack

from protocol.actions import Action, RegistryChange
from protocol.codec import decode, digest_of, encode, sha256
from protocol.envelope import RecordKind, record_payload
from protocol.errors import DecodeError, SignatureError
from tests.support import OWNER, STRANGER, World, make_challenge, make_verdict, replaced

WORLD = World()
CHANGE = WORLD.change(1, make_challenge("gamma"))


def test_the_owner_signs_a_change() -> None:
    CHANGE.verify(WORLD.network_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"content": replaced(CHANGE.content, sequence=2)},
        {"content": replaced(CHANGE.content, challenge=make_challenge("gamma", emission=2))},
        {"owner": STRANGER.public_key},
        {"signature": bytes(64)},
    ],
    ids=["sequence", "challenge", "owner", "signature"],
)
def test_nothing_in_a_signed_change_can_be_altered(changes: dict) -> None:
    with pytest.raises(SignatureError):
        replaced(CHANGE, **changes).verify(WORLD.network_id)


def test_a_change_is_for_one_network() -> None:
    with pytest.raises(SignatureError):
        CHANGE.verify(World(name="other").network_id)


def test_another_kind_of_owner_signature_is_no_change() -> None:
    payload = record_payload(RecordKind.SUBMISSION, WORLD.network_id, digest_of(CHANGE.content))
    with pytest.raises(SignatureError):
        replaced(CHANGE, signature=OWNER.sign(payload)).verify(WORLD.network_id)


def test_verifying_says_nothing_about_who_owns_the_network() -> None:
    """Whose signature counts, the state decides at execution."""
    WORLD.change(1, make_challenge("gamma"), owner=STRANGER).verify(WORLD.network_id)


def test_actions_are_told_apart_by_their_tag() -> None:
    statement = WORLD.statement(0, make_verdict(sha256(b"one")))
    for action, tag in ((statement, "statement"), (CHANGE, "registry")):
        assert decode(Action, encode(action)) == action
        assert msgpack.decode(encode(action))[0] == tag


@pytest.mark.parametrize("tag", ["reveal", "job", "Statement", ""])
def test_reserved_and_unknown_tags_are_refused(tag: str) -> None:
    fields = msgpack.decode(encode(CHANGE))
    with pytest.raises(DecodeError):
        decode(Action, msgpack.encode([tag, *fields[1:]]))


@pytest.mark.parametrize("sequence", [0, -1, 2**63])
def test_sequences_count_from_one(sequence: int) -> None:
    changed = replaced(CHANGE, content=replaced(CHANGE.content, sequence=sequence))
    with pytest.raises(DecodeError):
        decode(RegistryChange, encode(changed))
