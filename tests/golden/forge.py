"""Forgery: what a Byzantine validator may sign.

| words after `D forges` | meaning |
|---|---|
| `PREPARE view 0 slot 1 y` (or REJECT, COMMIT) | a vote that D has no reason for |
| `PREPARE view 0 slot 1 y in the name of C` | signed by D, though it says C |
| `proposal view 0 slot 1 y after genesis` | another batch for the slot |
| `VIEW-CHANGE view 2` | without tip and prepared slots, whatever D knows |
| `VIEW-CHANGE view 2 tip slot 1 x` | the tip proven by the COMMITs sent so far, and D's own |
| `NEW-VIEW view 1 from A, B` | made of these VIEW-CHANGEs only |
| `NEW-VIEW view 1 from A, B, C hiding what A prepared` | with A's VIEW-CHANGE altered |
| `CHECKPOINT slot 4 with another state` | a wrong state root |

A forged message reaches nobody by itself: the script says who receives it from whom.
"""

from __future__ import annotations

import re

from consensus import messages as ms
from consensus.certificate import build_certificate
from protocol.codec import sha256
from protocol.records.checkpoint import Checkpoint, CheckpointVote
from tests.consensus.builders import Signers, make_batch, make_header, replaced
from tests.golden.stage import Letter, Stage, StageError


def forge(stage: Stage, name: str, words: str) -> None:
    """Sign as `name` what `words` say, and keep it for delivery."""
    words, _, other = words.partition(" in the name of ")
    voters = stage.replicas[name].voters
    signers = Signers(voters)
    me = stage.replicas[name].index_of(name)
    for pattern, function in PATTERNS.items():
        if match := re.fullmatch(pattern, words):
            message = function(stage, signers, me, **match.groupdict())
            if other:
                message = replaced(message, signer=stage.replicas[name].index_of(other))
            stage.words.message(message)
            stage.sent.append(Letter(name, "", message))
            return
    raise StageError("no such forgery")


def _vote(stage: Stage, signers: Signers, me: int, kind: str, view: str, seq: str, batch: str):
    header = stage.words.by_name.get(batch)
    if header is None or header.seq != int(seq):
        raise StageError(f"no header {batch} for slot {seq}: forge its proposal first")
    return signers.vote(kind.lower(), me, header, int(view))


def _proposal(stage: Stage, signers: Signers, me: int, view: str, seq: str, batch: str, after: str):
    stage.words.batch(batch)
    known = stage.words.by_name.get(after)
    header = make_header(batch, int(seq), *([known.digest] if known else []), epoch=signers.epoch)
    vote = signers.vote("prepare", me, header, int(view))
    return ms.PrePrepare(vote=vote, header=header, batch=make_batch(batch))


def _view_change(stage: Stage, signers: Signers, me: int, view: str):
    return signers.view_change(me, int(view))


def _with_tip(stage: Stage, signers: Signers, me: int, view: str, seq: str, batch: str):
    header = stage.words.by_name[batch]
    signatures = {me: signers.signature("commit", me, 0, int(seq), header.digest)}
    for letter in stage.sent:
        vote = letter.message
        if isinstance(vote, ms.Vote) and (vote.kind, vote.digest) == ("commit", header.digest):
            signatures[vote.signer] = vote.signature
    tip = build_certificate(signers.voters, header, "commit", 0, signatures)
    return signers.view_change(me, int(view), tip)


def _new_view(stage: Stage, signers: Signers, me: int, view: str, names: str, hidden: str | None):
    changes = {}
    for letter in stage.sent:
        message = letter.message
        if isinstance(message, ms.ViewChange) and message.view == int(view):
            changes[stage.words.signer(message)] = message
    chosen = [changes[name] for name in names.split(", ")]
    if hidden is not None:
        altered = replaced(changes[hidden], prepared=())
        chosen = [altered if change is changes[hidden] else change for change in chosen]
    return signers.new_view(int(view), chosen, me)


def _checkpoint(stage: Stage, signers: Signers, me: int, seq: str) -> CheckpointVote:
    checkpoint = Checkpoint(
        epoch=signers.epoch,
        seq=int(seq),
        chain_hash=stage.decided[int(seq)],
        state_root=sha256(b"another state"),
        next_set=None,
    )
    return signers.checkpoint_vote(me, checkpoint)


PATTERNS = {
    r"(?P<kind>PREPARE|REJECT|COMMIT) view (?P<view>\d+)"
    r" slot (?P<seq>\d+) (?P<batch>[\w']+)": _vote,
    r"proposal view (?P<view>\d+) slot (?P<seq>\d+) (?P<batch>\w+) after (?P<after>\w+)": _proposal,
    r"VIEW-CHANGE view (?P<view>\d+)": _view_change,
    r"VIEW-CHANGE view (?P<view>\d+) tip slot (?P<seq>\d+) (?P<batch>\w+)": _with_tip,
    r"NEW-VIEW view (?P<view>\d+) from (?P<names>[A-Z, ]+?)"
    r"(?: hiding what (?P<hidden>[A-Z]) prepared)?": _new_view,
    r"CHECKPOINT slot (?P<seq>\d+) with another state": _checkpoint,
}
