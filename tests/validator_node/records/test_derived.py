"""What a node's own storage holds is answered under its key without ever having been put."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.messages import Evidence
from protocol.codec import decode, digest_of, encode, sha256
from protocol.records.record_key import DhtKind
from protocol.records.submission import SignedSubmission
from storage.errors import BlobDamagedError
from tests.validator_node.dht_support import Records
from validator_node.records.derived import Derived
from validator_node.store import Store


class Source:
    """A store, with what it does not index itself."""

    def __init__(self, store: Store, signed: SignedSubmission) -> None:
        self._store = store
        self._signed = signed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def signed_submission(self, submission_id: bytes) -> SignedSubmission | None:
        return self._signed if submission_id == self._signed.submission.submission_id else None

    def evidence_of(self, digest: bytes) -> Evidence | None:
        return next((e for e in self._store.evidence() if digest_of(e) == digest), None)


def test_every_kind_is_derived_and_proves_itself(records: Records, store: Store) -> None:
    result = records.result(store)
    submission = records.submission()
    store.put_body(sha256(b"content"), b"content")
    store.put_stable(records.stable(8, edge=True))
    evidence = records.evidence()
    store.put_evidence(decode(Evidence, evidence[1]))
    signed = decode(SignedSubmission, submission[1])
    derived = Derived(records.world.network_id, Source(store, signed))
    newest = records.key(DhtKind.CHECKPOINT, "newest"), encode(records.stable(8, edge=True))
    bundle = records.blob()[0].replace("/blob/", "/bundle/"), b"content"
    for key, value in (
        *(result, submission, evidence, records.blob(), bundle, records.validators(), newest),
    ):
        assert derived(key) == value
        records.book().check(key, value)


def test_what_is_not_held_or_no_key_is_none(records: Records, store: Store) -> None:
    empty = Derived(records.world.network_id)
    derived = Derived(
        records.world.network_id, Source(store, decode(SignedSubmission, records.submission()[1]))
    )
    for kind in set(DhtKind) - {DhtKind.CHECKPOINT, DhtKind.VALIDATORS}:
        assert derived(records.key(kind, sha256(b"nothing"))) is None
    assert derived(records.key(DhtKind.CHECKPOINT, "newest")) is None
    assert derived(records.key(DhtKind.CHECKPOINT, "oldest")) is None
    assert [derived(records.key(DhtKind.VALIDATORS, epoch)) for epoch in (0, 1)] == [None, None]
    for text in ("", "garbage", records.key(DhtKind.BLOB, "short")):
        assert derived(text) is None
    assert empty(records.blob()[0]) is None


def test_a_damaged_body_is_none(
    records: Records, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(digest: bytes) -> bytes:
        raise BlobDamagedError(digest.hex())

    monkeypatch.setattr(store, "body", damaged)
    derived = Derived(
        records.world.network_id, Source(store, decode(SignedSubmission, records.submission()[1]))
    )
    assert derived(records.blob()[0]) is None
