"""The life of a challenge version: candidate, then active or refused.

| state | event | next |
|---|---|---|
| none | the owner's change is ordered | candidate |
| candidate | a quorum found equal results, no failure | active |
| candidate | no results can reach a quorum any more | refused, `mismatch` |
| candidate | `CANARY_SLOTS` passed | refused, `timeout` |
| candidate | a newer change of the same challenge is ordered | that one is the candidate |
| active | a change of the emission alone | active, at once |
| active | a change to emission 0 | retired: its version, module and policy stay known |
| retired | a change of the emission alone | active, at once: its vectors ran before |

Rules:
1. The challenges of the genesis are active from the beginning: who founded the network ran them.
2. Until a candidate is active the version before it stays active, and takes submissions.
3. A single validator cannot keep a version from being activated, nor can any that together hold
   less than blocking weight. Who found something else is named in the record of the decision.
4. Each validator's first report on a candidate stands, as long as it is a member of the set. The
   first slot of an epoch judges the candidates anew by the new set.
5. A candidate's version is higher than that of the active or retired one.
6. At most `MAX_CHALLENGES` challenges are active or wait to be.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import msgspec

from consensus.validators import Voters
from protocol.codec import ZERO_DIGEST, digest_of
from protocol.records.canary import CanaryItem
from protocol.records.challenge import Challenge
from protocol.records.genesis import MAX_CHALLENGES
from protocol.view import View
from registry import keys
from registry.access import challenges, read, write
from registry.election import electorate

CANARY_SLOTS = 4_096
"""For every validator to fetch, compile and run a module."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A candidate was activated or refused."""

    challenge: Challenge
    reason: str
    """Why it was refused; empty if it is active."""
    reports: tuple[keys.Report, ...]


def evaluates_alike(one: Challenge, other: Challenge) -> bool:
    """Return whether both versions evaluate every submission in the same way."""
    return (one.module_hash, one.policy, one.params, one.vectors, one.version) == (
        other.module_hash,
        other.policy,
        other.params,
        other.vectors,
        other.version,
    )


def propose(view: View, challenge: Challenge, seq: int) -> str | None:
    """Take in the owner's next version: a candidate, or active at once. Return why not, or None."""
    key = challenge.challenge_id.encode()
    known = read(view, Challenge, keys.CHALLENGE + key)
    if challenge.emission == 0:
        if known is None:
            return "unknown_challenge"
        _forget(view, key)
        # Of the change only the emission: all else has to pass the validators' vectors first.
        write(view, keys.CHALLENGE + key, msgspec.structs.replace(known, emission=0))
        return None
    alike = known is not None and evaluates_alike(known, challenge)
    if known is not None and not alike and challenge.version <= known.version:
        return "version"
    taken = {one.challenge_id for one in challenges(view)}
    taken |= {one.challenge.challenge_id for one in candidates(view)}
    if challenge.challenge_id not in taken and len(taken) >= MAX_CHALLENGES:
        return "too_many_challenges"
    _forget(view, key)
    if alike:
        write(view, keys.CHALLENGE + key, challenge)
        return None
    write(view, keys.CANDIDATE + key, keys.Candidate(challenge=challenge, seq=seq, reports=()))
    view.put(keys.CANDIDATE_OF + digest_of(challenge), key)
    view.put(_deadline(seq, key), b"")
    return None


def candidates(view: View) -> list[keys.Candidate]:
    """Return the versions that wait for the validators' reports, by challenge id."""
    found = (read(view, keys.Candidate, key) for key, _ in list(view.items(keys.CANDIDATE)))
    return [one for one in found if one is not None]


def waiting(view: View, digest: bytes) -> keys.Candidate | None:
    """Return the candidate whose `Challenge` has this digest, or None."""
    key = view.get(keys.CANDIDATE_OF + digest)
    return None if key is None else read(view, keys.Candidate, keys.CANDIDATE + key)


def report(view: View, voters: Voters, signer: int, item: CanaryItem) -> Decided | str | None:
    """Count a report. Return the decision it brings, why it is a no-op, or None."""
    candidate = waiting(view, item.challenge)
    if candidate is None:
        return "no_candidate"
    hotkey = voters.members[signer].hotkey
    if any(known.hotkey == hotkey for known in candidate.reports):
        return "second_report"
    new = keys.Report(hotkey=hotkey, results=item.results, failure=item.failure)
    return _judge(view, voters, candidate, (*candidate.reports, new))


def rejudge(view: View, voters: Voters, seq: int) -> list[Decided]:
    """Judge the candidates by `voters` if slot `seq` is the first they vote on (rule 4)."""
    if next(iter(view.items(keys.CANDIDATE)), None) is None:
        return []  # as in nearly every slot: nothing is decoded
    now = electorate(view)
    if now is None or now.since + 1 != seq:
        return []
    judged = (_judge(view, voters, one, one.reports) for one in candidates(view))
    return [decided for decided in judged if decided is not None]


def _judge(
    view: View, voters: Voters, candidate: keys.Candidate, reports: tuple[keys.Report, ...]
) -> Decided | None:
    """Decide about a candidate, or keep what was reported on it by members of the set.

    A report of who has left does not count, and all that ever came could outgrow a value's limit.
    """
    members = {member.hotkey for member in voters.members}
    reports = tuple(known for known in reports if known.hotkey in members)
    reason = _decision(voters, reports)
    if reason is not None:
        return _decide(view, candidate.challenge, reason, reports)
    if reports != candidate.reports:
        kept = msgspec.structs.replace(candidate, reports=reports)
        write(view, keys.CANDIDATE + candidate.challenge.challenge_id.encode(), kept)
    return None


def expire(view: View, seq: int) -> list[Decided]:
    """Refuse the candidates whose time is over."""
    due = []
    for key, _ in view.items(keys.CANARY_DEADLINE):
        if key[len(keys.CANARY_DEADLINE) :][:8] > keys.u64(seq):
            break
        due.append(key[len(keys.CANARY_DEADLINE) + 8 :])
    decided = []
    for key in due:
        candidate = read(view, keys.Candidate, keys.CANDIDATE + key)
        if candidate is not None:
            decided.append(_decide(view, candidate.challenge, "timeout", candidate.reports))
    return decided


def _decision(voters: Voters, reports: tuple[keys.Report, ...]) -> str | None:
    """Return "" to activate, why to refuse, or None while it is open."""
    backers: defaultdict[bytes, set[int]] = defaultdict(set)
    index_of = {member.hotkey: index for index, member in enumerate(voters.members)}
    spoken = set()
    for known in reports:
        index = index_of[known.hotkey]
        spoken.add(index)
        if not known.failure and known.results != ZERO_DIGEST:
            backers[known.results].add(index)
    if any(voters.is_quorum(signers) for signers in backers.values()):
        return ""
    silent = set(range(len(voters))) - spoken
    if voters.is_quorum(silent):
        return None
    if any(voters.is_quorum(signers | silent) for signers in backers.values()):
        return None
    return "mismatch"


def _decide(
    view: View, challenge: Challenge, reason: str, reports: tuple[keys.Report, ...]
) -> Decided:
    key = challenge.challenge_id.encode()
    _forget(view, key)
    if not reason:
        write(view, keys.CHALLENGE + key, challenge)
    decision = keys.Decision(version=challenge.version, reason=reason, reports=reports)
    write(view, keys.DECISION + key, decision)
    return Decided(challenge, reason, reports)


def _forget(view: View, key: bytes) -> None:
    candidate = read(view, keys.Candidate, keys.CANDIDATE + key)
    if candidate is not None:
        view.delete(keys.CANDIDATE + key)
        view.delete(keys.CANDIDATE_OF + digest_of(candidate.challenge))
        view.delete(_deadline(candidate.seq, key))


def _deadline(seq: int, key: bytes) -> bytes:
    return keys.CANARY_DEADLINE + keys.u64(seq + CANARY_SLOTS) + key
