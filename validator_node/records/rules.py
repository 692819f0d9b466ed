"""The rule of each kind of record: what makes a value the record its key names. Pure.

Rules:
1. A value is judged by itself, its key and what this node knows for certain (the voters of an
   epoch, the hotkeys of the subnet): never by who sent it.
2. `check` accepts exactly the canonical bytes of a record whose signatures or hash hold. What
   proves itself under one key proves nothing under another.
3. `rank` orders the values that may stand under one key: the higher one replaces the lower. Where
   one valid value is as good as another, all rank alike.
4. Whoever calls `check` has compared the length with `max_bytes` before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from consensus.certificate import Verify
from consensus.checkpoints import judge_by
from consensus.evidence import contradicts
from consensus.messages import Evidence, Vote
from consensus.receipts import MAX_RECEIPT_BYTES, verify_receipt
from consensus.transfer import next_voters
from consensus.validators import Voters
from protocol.codec import decode, digest_of, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.errors import ProtocolError
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.record_key import NEWEST, RecordKey
from protocol.records.submission import SignedSubmission
from protocol.records.validators import SignedNodeRecord
from validator_node.records.errors import RecordError

MAX_VALUE_BYTES: Final = 262_144
"""Bound of every kind; larger blobs are found by their providers and fetched over a stream."""
MAX_CERTIFICATE_BYTES: Final = 65_536
MAX_NODE_RECORD_BYTES: Final = 8_192
MAX_EVIDENCE_BYTES: Final = 2_048
MAX_SUBMISSION_BYTES: Final = 1_024

VotersOf = Callable[[int], Voters | None]
"""epoch -> its voters, or None if this node cannot know them (yet)."""
IsKnown = Callable[[bytes], bool]
"""hotkey -> whether it is registered on the subnet or votes."""


class Rule(Protocol):
    """How records of one kind are judged."""

    max_bytes: int
    newest_wins: bool
    """Whether values of different rank exist, so that one answer may not be the best."""

    def check(self, key: RecordKey, value: bytes) -> None:
        """Raise `RecordError` or `ProtocolError` unless `value` is a record of this key."""

    def rank(self, value: bytes) -> int:
        """Return the place of a checked value among others of its key; the highest wins."""


class _AllAlike:
    newest_wins = False

    def rank(self, value: bytes) -> int:
        del value
        return 0


class ContentRule(_AllAlike):
    """Bytes by their SHA-256: blobs and bundles."""

    max_bytes = MAX_VALUE_BYTES

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        if sha256(value) != key.digest():
            raise RecordError("wrong_hash", f"{key}: the value hashes to {sha256(value).hex()}")


class SubmissionRule(_AllAlike):
    """A signed submission of a registered hotkey by its id."""

    max_bytes = MAX_SUBMISSION_BYTES

    def __init__(self, network_id: bytes, is_known: IsKnown) -> None:
        self._network_id = network_id
        self._is_known = is_known

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        signed = decode(SignedSubmission, value, limit_bytes=self.max_bytes)
        _same(key, signed.submission.submission_id)
        _known(key, signed.submission.hotkey, self._is_known)
        signed.verify(self._network_id)


class ResultRule(_AllAlike):
    """A receipt by the id of its submission. Its certificate proves it, whoever signed in it."""

    max_bytes = MAX_RECEIPT_BYTES

    def __init__(self, voters_of: VotersOf, verify: Verify) -> None:
        self._voters_of = voters_of
        self._verify = verify

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        receipt = verify_receipt(
            value, lambda epoch: _voters(key, epoch, self._voters_of), self._verify
        )
        _same(key, receipt.result.submission_id)


class CheckpointRule:
    """The newest stable checkpoint: the highest slot wins."""

    max_bytes = MAX_CERTIFICATE_BYTES
    newest_wins = True

    def __init__(self, voters_of: VotersOf, verify: Verify) -> None:
        self._voters_of = voters_of
        self._verify = verify

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        if key.id != NEWEST:
            raise RecordError("wrong_id", f"{key}: the one id of its kind is {NEWEST!r}")
        certificate = decode(CheckpointCertificate, value, limit_bytes=self.max_bytes)
        voters = _voters(key, certificate.checkpoint.epoch, self._voters_of)
        judge_by(voters, certificate, self._verify)

    def rank(self, value: bytes) -> int:
        """Return the checkpoint's slot."""
        return decode(CheckpointCertificate, value, limit_bytes=self.max_bytes).checkpoint.seq


class ValidatorsRule(_AllAlike):
    """A validator set by its epoch, proven by the checkpoint at the edge of the epoch before.

    The set of epoch 0 is the genesis': it has no record.
    """

    max_bytes = MAX_CERTIFICATE_BYTES

    def __init__(self, network_id: bytes, voters_of: VotersOf, verify: Verify) -> None:
        self._network_id = network_id
        self._voters_of = voters_of
        self._verify = verify

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        epoch = key.number()
        if epoch == 0:
            raise RecordError("wrong_id", f"{key}: the first set is the genesis' own")
        certificate = decode(CheckpointCertificate, value, limit_bytes=self.max_bytes)
        if certificate.checkpoint.epoch != epoch - 1:
            raise RecordError(
                "wrong_id", f"{key}: the value is of epoch {certificate.checkpoint.epoch}"
            )
        next_voters(certificate, self._network_id)
        judge_by(_voters(key, epoch - 1, self._voters_of), certificate, self._verify)


class EvidenceRule(_AllAlike):
    """Two contradicting votes by the digest of the pair."""

    max_bytes = MAX_EVIDENCE_BYTES

    def __init__(self, voters_of: VotersOf, verify: Verify) -> None:
        self._voters_of = voters_of
        self._verify = verify

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        evidence = decode(Evidence, value, limit_bytes=self.max_bytes)
        _same(key, digest_of(evidence))
        if not contradicts(evidence.first, evidence.second):
            raise RecordError("no_contradiction", f"{key}: the two votes do not contradict")
        voters = _voters(key, evidence.first.epoch, self._voters_of)
        for vote in (evidence.first, evidence.second):
            self._check_vote(key, voters, vote)

    def _check_vote(self, key: RecordKey, voters: Voters, vote: Vote) -> None:
        if vote.signer >= len(voters):
            raise RecordError("unknown_signer", f"{key}: validator {vote.signer} does not exist")
        signer = voters.key(vote.signer)
        payload = vote_payload(
            voters.domain,
            VoteKind(vote.kind),
            view=vote.view,
            seq=vote.seq,
            digest=vote.digest,
            signer=signer,
        )
        if not self._verify(signer, payload, vote.signature):
            raise RecordError("bad_signature", f"{key}: validator {vote.signer} did not sign")


class NodeRule:
    """A known hotkey's node record: the newest sequence number wins."""

    max_bytes = MAX_NODE_RECORD_BYTES
    newest_wins = True

    def __init__(self, network_id: bytes, is_known: IsKnown) -> None:
        self._network_id = network_id
        self._is_known = is_known

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        signed = decode(SignedNodeRecord, value, limit_bytes=self.max_bytes)
        _same(key, signed.record.hotkey)
        _known(key, signed.record.hotkey, self._is_known)
        signed.verify(self._network_id)

    def rank(self, value: bytes) -> int:
        """Return the record's sequence number."""
        return decode(SignedNodeRecord, value, limit_bytes=self.max_bytes).record.sequence


class ReservedRule(_AllAlike):
    """A kind that later versions will use: nothing is accepted under it now."""

    max_bytes = MAX_VALUE_BYTES

    def check(self, key: RecordKey, value: bytes) -> None:
        """See `Rule`."""
        raise RecordError("reserved", f"{key}: {len(value)} bytes for a kind that is not in use")


def _same(key: RecordKey, found: bytes) -> None:
    if found != key.digest():
        raise RecordError("wrong_id", f"{key}: the value is that of {found.hex()}")


def _known(key: RecordKey, hotkey: bytes, is_known: IsKnown) -> None:
    if not is_known(hotkey):
        raise RecordError("unknown_hotkey", f"{key}: hotkey {hotkey.hex()} is not registered")


def _voters(key: RecordKey, epoch: int, voters_of: VotersOf) -> Voters:
    voters = voters_of(epoch)
    if voters is None:
        raise RecordError("unknown_epoch", f"{key}: the voters of epoch {epoch} are not known")
    return voters


def refusal(key: str, error: ProtocolError) -> RecordError:
    """Return a protocol error as the reason why the value under `key` is refused."""
    return RecordError(error.reason, f"{key}: {error}")
