"""The life of a challenge version: candidate, then active or refused.

| state | event | next |
|---|---|---|
| none | the owner's change is ordered | candidate |
| candidate | a quorum found equal results, no failure | active |
| candidate | no results can reach a quorum any more | refused, `mismatch` |
| candidate | `CANARY_SLOTS` passed | refused, `timeout` |
| candidate | a newer change of the same challenge is ordered | that one is the candidate |
| active | a change of the emission alone, or to emission 0 | active, at once |

Rules:
1. The challenges of the genesis are active from the beginning: who founded the network ran them.
2. Until a candidate is active the version before it stays active, and takes submissions.
3. A single validator cannot keep a version from being activated, nor can any that together hold
   less than blocking weight. Who found something else is named in the record of the decision.
4. Each validator's first report on a candidate stands.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from consensus.validators import Voters
from protocol.codec import ZERO_DIGEST, digest_of
from protocol.records.canary import CanaryItem
from protocol.records.challenge import Challenge
from protocol.view import View
from registry import keys
from registry.access import read, write

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


def propose(view: View, challenge: Challenge, seq: int) -> Challenge | None:
    """Take in the owner's next version; return it if it is a candidate now, None if active."""
    key = challenge.challenge_id.encode()
    active = read(view, Challenge, keys.CHALLENGE + key)
    _forget(view, key)
    if challenge.emission == 0 or (active is not None and evaluates_alike(active, challenge)):
        write(view, keys.CHALLENGE + key, challenge)
        return None
    write(view, keys.CANDIDATE + key, keys.Candidate(challenge=challenge, seq=seq, reports=()))
    view.put(_deadline(seq, key), b"")
    return challenge


def candidates(view: View) -> list[keys.Candidate]:
    """Return the versions that wait for the validators' reports, by challenge id."""
    found = (read(view, keys.Candidate, key) for key, _ in list(view.items(keys.CANDIDATE)))
    return [one for one in found if one is not None]


def report(view: View, voters: Voters, signer: int, item: CanaryItem) -> Decided | str | None:
    """Count a report. Return the decision it brings, why it is a no-op, or None."""
    waiting = [one for one in candidates(view) if digest_of(one.challenge) == item.challenge]
    if not waiting:
        return "no_candidate"
    candidate = waiting[0]
    hotkey = voters.members[signer].hotkey
    if any(known.hotkey == hotkey for known in candidate.reports):
        return "second_report"
    new = keys.Report(hotkey=hotkey, results=item.results, failure=item.failure)
    reports = (*candidate.reports, new)
    reason = _decision(voters, reports)
    if reason is None:
        key = keys.CANDIDATE + candidate.challenge.challenge_id.encode()
        kept = keys.Candidate(challenge=candidate.challenge, seq=candidate.seq, reports=reports)
        write(view, key, kept)
        return None
    return _decide(view, candidate.challenge, reason, reports)


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
        index = index_of.get(known.hotkey)
        if index is None:
            continue  # it has left the set since
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
        view.delete(_deadline(candidate.seq, key))


def _deadline(seq: int, key: bytes) -> bytes:
    return keys.CANARY_DEADLINE + keys.u64(seq + CANARY_SLOTS) + key
