"""What the owner is shown of a change."""

from __future__ import annotations

import pytest

from protocol.identity import ss58_of
from registry.keys import Candidate, Decision, Report
from tests.makers import make_challenge, replaced
from validator_node.owner.progress import progress_of
from validator_node.owner.queries import RegistryReply
from validator_node.owner.release import Release

OLD = make_challenge("alpha")
NEW = make_challenge("alpha", version=2)
RELEASE = Release(challenge_id="alpha", challenge=NEW)
BEFORE = RegistryReply(
    network_id=bytes(32),
    owner=bytes(32),
    sequence=4,
    height=30,
    validators=4,
    state="unknown",
    reason="",
    active=OLD,
    candidate=None,
    decision=None,
)
GOOD = Report(hotkey=b"\1" * 32, results=b"r" * 32, failure="")
BAD = Report(hotkey=b"\2" * 32, results=bytes(32), failure="first: trap, expected ok")
ODD = Report(hotkey=b"\3" * 32, results=b"o" * 32, failure="")
CANDIDATE = Candidate(challenge=NEW, seq=31, reports=(GOOD, BAD))


@pytest.mark.parametrize(
    ("changes", "stage", "words"),
    [
        ({}, "sent", "not yet seen"),
        ({"state": "held"}, "held", "waits to be ordered"),
        ({"state": "refused", "reason": "version"}, "refused", "version: raise `version`"),
        (
            {"sequence": 5, "candidate": CANDIDATE},
            "candidate",
            "slot 31 as a candidate: 2 of 4 validators",
        ),
        ({"sequence": 5, "active": NEW}, "active", "version 2 is active with emission 1"),
        # What was decided about an earlier attempt says nothing while the new one waits.
        (
            {
                "sequence": 5,
                "candidate": CANDIDATE,
                "decision": Decision(version=2, reason="timeout", reports=()),
            },
            "candidate",
            "2 of 4",
        ),
        (
            {"sequence": 5, "decision": Decision(version=2, reason="mismatch", reports=())},
            "refused",
            "mismatch: run the vectors",
        ),
        ({"sequence": 6}, "superseded", "the network is at change 6"),
        (
            {"sequence": 5, "candidate": replaced(CANDIDATE, challenge=OLD)},
            "superseded",
            "another change",
        ),
    ],
)
def test_every_stage_has_its_words(changes, stage: str, words: str) -> None:
    progress = progress_of(RELEASE, NEW, 5, replaced(BEFORE, **changes))
    assert progress.stage == stage
    assert words in progress.text
    assert progress.is_over == (stage in {"active", "refused", "superseded"})


def test_who_found_something_else_is_named() -> None:
    decision = Decision(version=2, reason="", reports=(GOOD, GOOD, BAD, ODD))
    reply = replaced(BEFORE, sequence=5, active=NEW, decision=decision)
    assert progress_of(RELEASE, NEW, 5, reply).details == (
        f"{ss58_of(BAD.hotkey)}: vector first: trap, expected ok",
        f"{ss58_of(ODD.hotkey)}: other results {ODD.results.hex()[:16]}",
    )


def test_a_challenge_is_retired_when_its_emission_is_0() -> None:
    retire, wanted = Release(challenge_id="alpha"), replaced(OLD, emission=0)
    assert progress_of(retire, wanted, 5, replaced(BEFORE, state="held")).stage == "held"
    progress = progress_of(retire, wanted, 5, replaced(BEFORE, sequence=5, active=wanted))
    assert (progress.stage, progress.text) == ("active", "retired, by slot 30")
