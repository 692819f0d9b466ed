"""Where things stand in the replicated state.

| key | value |
|---|---|
| `meta/epoch` | `Progress`: the current epoch |
| `meta/time` | `Time`: network time at the last slot that had actions |
| `meta/registry` | `RegistryMark`: owner and last committed change |
| `meta/election` | `ElectionRules` |
| `meta/voters` | `Electorate`: the validator set of the current epoch |
| `meta/metagraph` | `EpochMetagraph` of the next epoch, from its batch to the edge |
| `neuron/` hotkey | `Neuron` |
| `challenge/` id | `Challenge`, the active version |
| `mark/` signer (2) | `Mark`: a validator's last statement of this epoch |
| `meta/edge` | `FixedEdge`: where the epoch ends, once that is agreed |
| `observed/` signer (2) | `Observation` of the next epoch |
| `key/` hotkey | `NodeKey`: the consensus key that votes for it |
| `bound/` consensus key | `Bound`: whose it is, for ever |
| `pending/` submission id | `Pending`: admitted, not settled |
| `pending-of/` hotkey | `PendingOf`: how many of its submissions are pending; absent for none |
| `deadline/` seq (8) submission id | empty |
| `result/` submission id | `Result` |
| `ended/` epoch (8) submission id | the key of its body's `Content` |
| `content/` sha256(challenge id, body hash) | `Content`: who submitted this body first |
| `best/` epoch (8) challenge id `/` hotkey | `Best`: the best settled score |
| `weights/` epoch (8) | `EpochWeights` |
| `writes/` submission id, writes hash | `Written`: what verdicts on it would store |
| `stored/` challenge id `/` length (1) key seq (8) | a version of a challenge's value |
| `stored-size/` challenge id | `Held`: how much its storage holds, and all versions of it |
| `candidate/` id | `Candidate`: a version that waits for the validators' reports |
| `candidate-of/` digest of the `Challenge` | the candidate's id |
| `canary-deadline/` seq (8) id | empty: when it is refused |
| `decision/` id | `Decision`: what became of the last candidate, and who reported what |
| `stale/` seq (8) challenge id `/` key | empty: versions to drop in that slot |

Integers in keys are big-endian, so that key order is numeric order.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U16, U32, U64, Digest, PublicKey, Record, sha256
from protocol.records.canary import MAX_FAILURE_CHARS
from protocol.records.challenge import Challenge, EvaluationContext
from protocol.records.challenge_storage import Writes
from protocol.records.statement import Observation, VerdictItem
from protocol.records.submission import Submission
from protocol.records.validators import ValidatorSet

EPOCH = b"meta/epoch"
TIME = b"meta/time"
REGISTRY = b"meta/registry"
EDGE = b"meta/edge"
ELECTION = b"meta/election"
VOTERS = b"meta/voters"
METAGRAPH = b"meta/metagraph"
NEURON = b"neuron/"
CHALLENGE = b"challenge/"
MARK = b"mark/"
OBSERVED = b"observed/"
KEY = b"key/"
BOUND = b"bound/"
PENDING = b"pending/"
PENDING_OF = b"pending-of/"
COPIES_OF = b"copies-of/"
DEADLINE = b"deadline/"
RESULT = b"result/"
CONTENT = b"content/"
BEST = b"best/"
ENDED = b"ended/"
WRITES = b"writes/"
STORED = b"stored/"
STORED_SIZE = b"stored-size/"
STALE = b"stale/"
CANDIDATE = b"candidate/"
CANDIDATE_OF = b"candidate-of/"
CANARY_DEADLINE = b"canary-deadline/"
DECISION = b"decision/"


class Progress(Record):
    """The current epoch."""

    epoch: U64


class Time(Record):
    """Network time: `time_ms` at slot `seq`; each later slot is at least a millisecond later."""

    time_ms: U64
    seq: U64


class RegistryMark(Record):
    """Who may change the catalogue, and the sequence of the last change."""

    owner: PublicKey
    sequence: U64


class Mark(Record):
    """A validator's last executed statement in this epoch."""

    counter: U64
    clock_ms: U64


class FixedEdge(Record):
    """The last slot of the epoch, the observation that fixed it, and who votes afterwards."""

    seq: U64
    observation: Observation
    next_set: ValidatorSet
    reason: str
    """Why the set stays as it is; empty if it was elected."""


class Electorate(Record):
    """The validator set of the current epoch."""

    voters: ValidatorSet
    since: U64
    """The edge of the epoch before: the set votes on the slots above it."""
    reason: str
    """Why it is the set of the epoch before; empty if it was elected, or is the genesis'."""


class NodeKey(Record):
    """The consensus key that votes for a hotkey from the next election on."""

    consensus_key: PublicKey
    sequence: U64
    epoch: U64 | None
    """The epoch in which it was bound; None at genesis."""


class Bound(Record):
    """Whose consensus key this is or was.

    A key is bound once: one that was given up may have signed what its holder does not know.
    """

    hotkey: PublicKey


class Stated(Record):
    """A verdict with the hotkey of the validator that stated it: indices change with the epoch.

    The verdict's writes are left out: `Written` holds them, under their hash.
    """

    hotkey: PublicKey
    verdict: VerdictItem
    writes_hash: Digest


class Written(Record):
    """Writes that at least one verdict of a pending submission states."""

    writes: Writes


class Pending(Record):
    """An admitted submission that waits for a quorum of one verdict."""

    submission: Submission
    uid: U16
    challenge_version: U32
    admitted_seq: U64
    context: EvaluationContext
    stated: tuple[Stated, ...]


class PendingOf(Record):
    """How many submissions of a hotkey are pending, never 0."""

    count: U32


class CopiesOf(Record):
    """How many copies of a hotkey were admitted in the epoch of its last one."""

    epoch: U64
    count: U32


class Content(Record):
    """Who submitted a body first, and in which epoch last."""

    submission_id: Digest
    hotkey: PublicKey
    epoch: U64


class Best(Record):
    """A miner's best settled score in a challenge and epoch."""

    score: U64
    submission_id: Digest
    uid: U16
    """The uid under which the submission was admitted."""


class Report(Record):
    """What a validator found when it ran a candidate's vectors."""

    hotkey: PublicKey
    results: Digest
    failure: Annotated[str, Meta(max_length=MAX_FAILURE_CHARS)]


class Candidate(Record):
    """A challenge version that is not active yet, proposed in slot `seq`."""

    challenge: Challenge
    seq: U64
    reports: tuple[Report, ...]


class Decision(Record):
    """What became of a candidate; `reason` says why it was refused, empty if it is active."""

    version: U32
    reason: str
    reports: tuple[Report, ...]


def u16(value: int) -> bytes:
    """Return a two-byte key part."""
    return value.to_bytes(2, "big")


def u64(value: int) -> bytes:
    """Return an eight-byte key part."""
    return value.to_bytes(8, "big")


def content_key(challenge_id: str, body_hash: bytes) -> bytes:
    """Return the key under which a body's first submitter stands."""
    return CONTENT + sha256(challenge_id.encode(), b"\0", body_hash)


def storage_prefix(challenge_id: str) -> bytes:
    """Return what the keys of a challenge's storage begin with: no id contains a slash."""
    return STORED + challenge_id.encode() + b"/"


def storage_key(challenge_id: str, key: bytes) -> bytes:
    """Return what the versions of a key of a challenge's storage begin with."""
    return storage_prefix(challenge_id) + bytes((len(key),)) + key


def best_key(epoch: int, challenge_id: str, hotkey: bytes) -> bytes:
    """Return the key of a miner's best score."""
    return BEST + u64(epoch) + challenge_id.encode() + b"/" + hotkey
