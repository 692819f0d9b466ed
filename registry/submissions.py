"""The life of a submission in the replicated state: admitted, then settled, disputed or a copy.

Rules (consensus.md 15, 16):
1. A submission is *admitted* at its first ordered admission by any validator. That fixes the
   challenge version and the evaluation's context: epoch, slot, network time, and the seed
   sha256(digest of the slot | submission id), which nobody knew when the body was made.
2. Each validator's first verdict stands. A submission is *settled* once validators holding a quorum
   of the weight state the same verdict (hash, class and score), and *disputed* as soon as none can
   reach one, or `dispute_after` slots after admission: a non-deterministic body poisons only
   itself.
3. The first hotkey to submit a body for a challenge owns it. The same body from another hotkey, or
   a second time in one epoch, is a *copy* and earns nothing (`registry.copies`).
4. Within an epoch a miner's score in a challenge is its best settled one. A result counts in the
   epoch in which it is settled.
5. A verdict's writes are part of what a quorum agrees on, and reach the challenge's storage when
   it settles (`registry.challenge_storage`).
6. What does not apply changes nothing and is returned as a no-op with a reason.
7. A hotkey has a bounded number of pending submissions (`registry.pending`). An admission beyond
   it is the no-op `too_many_pending`: it may be asked for again once one of them has ended.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from consensus.validators import Voters
from protocol.codec import ZERO_DIGEST, decode
from protocol.envelope import seed_of
from protocol.records.challenge import Challenge, EvaluationContext
from protocol.records.challenge_storage import are_well_formed, writes_hash
from protocol.records.result import Copy, Disputed, Replicated, Result
from protocol.records.statement import VerdictItem
from protocol.records.submission import MAX_EXPIRY_EPOCHS, SignedSubmission, Submission
from protocol.view import View
from registry import challenge_storage, copies, keys, pruning
from registry.access import challenge as find_challenge
from registry.access import current_epoch, neuron, read, write
from registry.pending import find_pending, hold, overdue, release, rewrite, room


@dataclass(frozen=True, slots=True)
class SlotContext:
    """The slot an action executes in."""

    seq: int
    digest: bytes
    time_ms: int
    epoch: int
    dispute_after: int
    max_pending_per_hotkey: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """A submission was admitted: evaluate it under this context."""

    submission_id: bytes
    submission: Submission
    challenge: Challenge
    context: EvaluationContext


@dataclass(frozen=True, slots=True)
class Ended:
    """A submission has its result."""

    result: Result
    writes_refused: str | None = None
    """Why what it would have stored was not stored."""


@dataclass(frozen=True, slots=True)
class NoOp:
    """An item had no effect; `subject` is what it was about."""

    reason: str
    subject: bytes


Event = Admitted | Ended | NoOp


def why_inadmissible(view: View, submission: Submission) -> str | None:
    """Return why the state would not admit a submission, or None.

    What is only too early, because the hotkey has too many pending, has no reason here: it is
    `registry.pending.room` that tells.
    """
    submission_id = submission.submission_id
    if view.get(keys.PENDING + submission_id) or view.get(keys.RESULT + submission_id):
        return "duplicate"
    if neuron(view, submission.hotkey) is None:
        return "unregistered"
    challenge = find_challenge(view, submission.challenge_id)
    if challenge is None:
        return "unknown_challenge"
    if submission.challenge_version not in (0, challenge.version):
        return "other_version"
    if submission.body_size > challenge.policy.max_input_bytes:
        return "too_large"
    epoch = current_epoch(view)
    if submission.expiry_epoch < epoch:
        return "expired"
    if submission.expiry_epoch > epoch + MAX_EXPIRY_EPOCHS:
        return "expires_too_late"
    is_copy = copies.original_of(view, submission, epoch) is not None
    if is_copy and not copies.has_room(view, submission.hotkey, epoch):
        return "too_many_copies"
    return None


def admit(view: View, slot: SlotContext, signed: SignedSubmission) -> Event:
    """Admit a submission (rules 1, 3 and 7)."""
    submission = signed.submission
    submission_id = submission.submission_id
    reason = why_inadmissible(view, submission)
    challenge = find_challenge(view, submission.challenge_id)
    miner = neuron(view, submission.hotkey)
    if reason is not None or challenge is None or miner is None:
        return NoOp(reason or "unknown", submission_id)
    if not room(view, submission.hotkey, slot.max_pending_per_hotkey):
        return NoOp("too_many_pending", submission_id)
    context = EvaluationContext(
        epoch=slot.epoch,
        height=slot.seq,
        time_ms=slot.time_ms,
        seed=seed_of(slot.digest, submission_id),
    )
    pending = keys.Pending(
        submission=submission,
        uid=miner.uid,
        challenge_version=challenge.version,
        admitted_seq=slot.seq,
        context=context,
        stated=(),
    )
    original = copies.original_of(view, submission, slot.epoch)
    if original is not None:
        copies.count(view, submission.hotkey, slot.epoch)
        return _end(view, slot, submission_id, pending, Copy(original=original))
    copies.own(view, submission_id, submission, slot.epoch)
    hold(view, submission_id, pending, slot.dispute_after)
    return Admitted(submission_id, submission, challenge, context)


def state_verdict(
    view: View, voters: Voters, slot: SlotContext, signer: int, verdict: VerdictItem
) -> Event | None:
    """Count a validator's verdict; settle or dispute the submission if that ends it (rule 2)."""
    submission_id = verdict.submission_id
    pending = find_pending(view, submission_id)
    if pending is None:
        known = view.get(keys.RESULT + submission_id) is not None
        return NoOp("already_settled" if known else "not_admitted", submission_id)
    hotkey = voters.members[signer].hotkey
    if any(stated.hotkey == hotkey for stated in pending.stated):
        return NoOp("second_verdict", submission_id)
    if not are_well_formed(verdict.writes):
        return NoOp("malformed_writes", submission_id)
    stated = (*pending.stated, _stated(view, hotkey, verdict))
    basis, agreed_writes = _basis(voters, stated)
    if basis is None:
        replaced = keys.Pending(
            submission=pending.submission,
            uid=pending.uid,
            challenge_version=pending.challenge_version,
            admitted_seq=pending.admitted_seq,
            context=pending.context,
            stated=stated,
        )
        rewrite(view, submission_id, replaced)
        return None
    written = read(view, keys.Written, keys.WRITES + submission_id + agreed_writes)
    ended = _end(view, slot, submission_id, pending, basis, stated)
    if written is None:
        return ended
    refused = challenge_storage.apply(
        view, ended.result.challenge_id, slot.seq, written.writes, slot.dispute_after
    )
    return Ended(ended.result, refused)


def _stated(view: View, hotkey: bytes, verdict: VerdictItem) -> keys.Stated:
    """Return what is kept of a verdict; its writes are kept once for all that agree."""
    digest = writes_hash(verdict.writes)
    if verdict.writes:
        kept = keys.WRITES + verdict.submission_id + digest
        write(view, kept, keys.Written(writes=verdict.writes))
    bare = VerdictItem(
        submission_id=verdict.submission_id,
        verdict_hash=verdict.verdict_hash,
        outcome_class=verdict.outcome_class,
        score=verdict.score,
    )
    return keys.Stated(hotkey=hotkey, verdict=bare, writes_hash=digest)


def _basis(
    voters: Voters, stated: tuple[keys.Stated, ...]
) -> tuple[Replicated | Disputed | None, bytes]:
    """Return what the verdicts come to by the weights of the current set, or None while open.

    With it the hash of the writes that were agreed on; 32 zero bytes for none.
    """
    backers: defaultdict[tuple[bytes, str, int, bytes], set[int]] = defaultdict(set)
    index_of = {member.hotkey: index for index, member in enumerate(voters.members)}
    spoken = set()
    for entry in stated:
        index = index_of.get(entry.hotkey)
        if index is None:
            continue  # it has left the set since
        verdict = entry.verdict
        choice = (verdict.verdict_hash, verdict.outcome_class, verdict.score, entry.writes_hash)
        backers[choice].add(index)
        spoken.add(index)
    for (verdict_hash, outcome_class, score, writes), signers in backers.items():
        if voters.is_quorum(signers):
            agreed = Replicated(verdict_hash=verdict_hash, outcome_class=outcome_class, score=score)
            return agreed, writes
    silent = set(range(len(voters))) - spoken
    if voters.is_quorum(silent) or any(
        voters.is_quorum(signers | silent) for signers in backers.values()
    ):
        return None, ZERO_DIGEST
    return Disputed(reason="split"), ZERO_DIGEST


def expire(view: View, slot: SlotContext) -> list[Event]:
    """Dispute what has waited `dispute_after` slots (rule 2), and drop stale storage."""
    events: list[Event] = []
    for submission_id in overdue(view, slot.seq):
        pending = find_pending(view, submission_id)
        if pending is not None:
            disputed = Disputed(reason="timeout")
            events.append(_end(view, slot, submission_id, pending, disputed))
    challenge_storage.drop_stale(view, slot.seq, slot.dispute_after)
    return events


def _end(
    view: View,
    slot: SlotContext,
    submission_id: bytes,
    pending: keys.Pending,
    basis: Replicated | Disputed | Copy,
    stated: tuple[keys.Stated, ...] = (),
) -> Ended:
    """Write the result; `stated` are the verdicts, if there are more than `pending` knows of."""
    submission = pending.submission
    result = Result(
        submission_id=submission_id,
        hotkey=submission.hotkey,
        uid=pending.uid,
        challenge_id=submission.challenge_id,
        challenge_version=pending.challenge_version,
        epoch=slot.epoch,
        admitted_seq=pending.admitted_seq,
        settled_seq=slot.seq,
        basis=basis,
    )
    release(view, submission_id, pending, slot.dispute_after)
    # By name: to look for rows by their prefix costs as much as all changes of the slot.
    for entry in stated or pending.stated:
        row = keys.WRITES + submission_id + entry.writes_hash
        if view.get(row) is not None:
            view.delete(row)
    write(view, keys.RESULT + submission_id, result)
    body = keys.content_key(submission.challenge_id, submission.body_hash)
    pruning.remember(view, slot.epoch, submission_id, body)
    if isinstance(basis, Replicated):
        _raise_best(view, result, basis.score)
    elif isinstance(basis, Disputed):
        copies.disown(view, submission_id, submission)
    return Ended(result)


def _raise_best(view: View, result: Result, score: int) -> None:
    key = keys.best_key(result.epoch, result.challenge_id, result.hotkey)
    best = read(view, keys.Best, key)
    if best is None or score > best.score:
        new = keys.Best(score=score, submission_id=result.submission_id, uid=result.uid)
        write(view, key, new)


def best_scores(view: View, epoch: int) -> dict[str, dict[bytes, keys.Best]]:
    """Return challenge id -> hotkey -> best settled score of an epoch (rule 4).

    By hotkey and not by uid, because a uid may belong to another miner by now.
    """
    prefix = keys.BEST + keys.u64(epoch)
    scores: dict[str, dict[bytes, keys.Best]] = {}
    for key, data in view.items(prefix):
        challenge_id = key[len(prefix) : -33].decode()
        scores.setdefault(challenge_id, {})[key[-32:]] = decode(keys.Best, data)
    return scores
