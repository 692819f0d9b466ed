"""Each kind accepts its valid record under its key, and refuses every other one with the reason."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.messages import Evidence
from protocol.codec import decode, digest_of, encode, sha256
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.record_key import DhtKind
from protocol.records.submission import SignedSubmission
from protocol.records.validators import SignedNodeRecord
from tests.support import STRANGER, World
from tests.validator_node.dht_support import Records
from validator_node.records import MAX_VALUE_BYTES, RecordBook, RecordError
from validator_node.store import Store

Case = tuple[str, bytes]


def refused(book: RecordBook, key: str, value: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        book.check(key, value)
    assert str(caught.value)
    return caught.value.reason


@pytest.fixture
def book(records: Records) -> RecordBook:
    return records.book()


@pytest.fixture
def result(records: Records, store: Store) -> Case:
    return records.result(store)


@pytest.fixture
def valid(records: Records, result: Case) -> dict[str, Case]:
    """A valid record of each kind; that of the set could stand as the newest checkpoint too."""
    blob_key, content = records.blob()
    return {
        "blob": (blob_key, content),
        "bundle": (blob_key.replace("/blob/", "/bundle/"), content),
        "node": records.node(),
        "submission": records.submission(),
        "checkpoint": records.checkpoint(4),
        "validators": records.validators(),
        "evidence": records.evidence(),
        "result": result,
    }


def test_a_valid_record_of_each_kind_is_accepted(book: RecordBook, valid: dict[str, Case]) -> None:
    assert set(valid) == set(DhtKind) - {DhtKind.COLLATERAL}
    for key, value in valid.values():
        book.check(key, value)
        book.check(key, value)


def test_an_altered_value_of_each_kind_is_refused(book: RecordBook, valid: dict[str, Case]) -> None:
    for key, value in valid.values():
        for position in {0, 1, len(value) // 2, len(value) - 1}:
            altered = bytearray(value)
            altered[position] ^= 1
            refused(book, key, bytes(altered))
        refused(book, key, value + b"\0")
        refused(book, key, value[:-1])
        refused(book, key, b"")


def test_a_record_proves_nothing_under_another_key(
    book: RecordBook, records: Records, valid: dict[str, Case]
) -> None:
    keys = [key for key, _ in valid.values()]
    for kind, (key, value) in valid.items():
        for other in keys:
            pair = {kind, other.split("/")[1]}
            if other != key and pair not in ({"blob", "bundle"}, {"validators", "checkpoint"}):
                refused(book, other, value)
    for kind in set(DhtKind) - {DhtKind.CHECKPOINT, DhtKind.COLLATERAL}:
        name: bytes | int = 2 if kind == DhtKind.VALIDATORS else sha256(b"another")
        key = records.key(kind, name)
        assert refused(book, key, valid[kind][1]) in ("wrong_id", "wrong_hash", "unknown_epoch")


def test_over_long_values_are_refused_before_they_are_read(
    book: RecordBook, valid: dict[str, Case]
) -> None:
    for key, _ in valid.values():
        assert refused(book, key, bytes(MAX_VALUE_BYTES + 1)) == "too_large"


def test_unknown_kinds_networks_and_forms_are_refused(
    book: RecordBook, records: Records, valid: dict[str, Case]
) -> None:
    key, value = valid["blob"]
    network = key.split("/")[2]
    assert refused(book, key.replace("blob", "other"), value) == "unknown_kind"
    assert refused(book, key.replace(network, "0" * 16), value) == "wrong_network"
    assert refused(book, "blob", value) == "bad_record_key"
    assert refused(book, key.replace("/blob/", "/pk/"), value) == "unknown_kind"
    assert refused(book, records.key(DhtKind.COLLATERAL, 1), b"x") == "reserved"
    assert refused(book, records.key(DhtKind.COLLATERAL, 1), b"") == "reserved"


def test_strangers_have_no_submissions_and_no_node_records(
    book: RecordBook, records: Records, world: World
) -> None:
    signed = world.sign(world.submission(hotkey=STRANGER.public_key))
    key = records.key(DhtKind.SUBMISSION, signed.submission.submission_id)
    assert refused(book, key, encode(signed)) == "unknown_hotkey"
    records.hotkeys.discard(world.hotkeys[0].public_key)
    assert refused(book, *records.node()) == "unknown_hotkey"


def test_signatures_of_others_are_refused(book: RecordBook, records: Records, world: World) -> None:
    key, value = records.submission()
    signed = decode(SignedSubmission, value)
    other = world.sign(signed.submission, by=world.miners[1])
    assert refused(book, key, encode(other)) == "bad_signature"
    key, value = records.node()
    node = decode(SignedNodeRecord, value)
    theirs = decode(SignedNodeRecord, records.node(1)[1])
    forged = msgspec.structs.replace(node, signature=theirs.signature)
    assert refused(book, key, encode(forged)) == "bad_signature"


def test_a_checkpoint_needs_a_quorum_of_its_epoch(book: RecordBook, records: Records) -> None:
    key, value = records.checkpoint(4)
    assert refused(book, key, encode(records.stable(4, signers=2))) == "bad_proof"
    assert refused(book, key.replace("newest", "oldest"), value) == "wrong_id"
    del records.sets[0]
    assert refused(records.book(), key, value) == "unknown_epoch"


def test_a_set_is_proven_by_the_epoch_before_it(book: RecordBook, records: Records) -> None:
    key, value = records.validators()
    certificate = decode(CheckpointCertificate, value)
    book.check(key, encode(certificate))
    assert refused(book, records.key(DhtKind.VALIDATORS, 0), value) == "wrong_id"
    no_edge = encode(records.stable(8))
    assert refused(book, key, no_edge) == "bad_proof"
    unsigned = encode(records.stable(8, edge=True, signers=2))
    assert refused(book, key, unsigned) == "bad_proof"


def evidence_refusals(records: Records) -> list[tuple[str, Evidence]]:
    first, second = records.vote(sha256(b"a")), records.vote(sha256(b"b"))
    changed: Callable[..., object] = msgspec.structs.replace
    return [
        ("no_contradiction", Evidence(first=first, second=first)),
        ("no_contradiction", Evidence(first=first, second=records.vote(sha256(b"b"), signer=2))),
        ("bad_signature", Evidence(first=first, second=changed(second, digest=sha256(b"c")))),  # type: ignore[arg-type]
        (
            "unknown_signer",
            Evidence(first=changed(first, signer=9), second=changed(second, signer=9)),  # type: ignore[arg-type]
        ),
        (
            "unknown_epoch",
            Evidence(first=changed(first, epoch=7), second=changed(second, epoch=7)),  # type: ignore[arg-type]
        ),
    ]


def test_evidence_needs_two_signed_contradicting_votes(book: RecordBook, records: Records) -> None:
    for reason, evidence in evidence_refusals(records):
        key = records.key(DhtKind.EVIDENCE, digest_of(evidence))
        assert refused(book, key, encode(evidence)) == reason


kinds = st.sampled_from([*DhtKind, "other"])
ids = st.one_of(
    st.just(sha256(b"").hex()),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(0, 10**20).map(str),
    st.text(alphabet="0123456789abcdefnewst", min_size=1, max_size=64),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(kinds, ids, st.binary(max_size=300))
def test_any_bytes_under_any_key_are_judged(
    world: World, kind: str, name: str, value: bytes
) -> None:
    """Only content under its own hash is accepted; nothing but `RecordError` comes out."""
    book = Records(world).book()
    key = f"/{kind}/{world.network_id.hex()[:16]}/{name}"
    if kind in ("blob", "bundle") and name == sha256(value).hex():
        book.check(key, value)
    else:
        refused(book, key, value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_mutations_of_valid_records_never_raise_anything_else(
    records: Records, valid: dict[str, Case], data: st.DataObject
) -> None:
    key, value = data.draw(st.sampled_from(sorted(valid.values())))
    other = data.draw(st.sampled_from(sorted(valid.values())))[1]
    cut = data.draw(st.integers(0, len(value)))
    paste = data.draw(st.integers(0, len(other)))
    middle = data.draw(st.binary(max_size=8))
    mutated = value[:cut] + middle + other[paste:]
    if mutated not in [good for _, good in valid.values()]:
        refused(records.book(), key, mutated)
