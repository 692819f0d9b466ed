"""Candidates: who decides about them, and what the state keeps."""

from __future__ import annotations

import pytest

from protocol.codec import ZERO_DIGEST, digest_of, sha256
from protocol.records.canary import CanaryItem
from protocol.records.challenge import Challenge
from protocol.view import DictView
from registry import keys
from registry.access import challenge, read
from registry.catalog import apply_registry_change
from registry.lifecycle import CANARY_SLOTS, Decided, candidates, expire, report
from tests.registry.support import WORLD
from tests.support import make_challenge, replaced

NEXT = make_challenge("alpha", version=2)
GOOD = sha256(b"results")


def item(candidate: Challenge = NEXT, results: bytes = GOOD, failure: str = "") -> CanaryItem:
    return CanaryItem(challenge=digest_of(candidate), results=results, failure=failure)


FAILED = item(results=ZERO_DIGEST, failure="deep recursion: ok, expected trap")


def proposed(*changes: Challenge, seq: int = 10) -> DictView:
    view = WORLD.state()
    for number, change in enumerate(changes, start=1):
        assert apply_registry_change(view, WORLD.change(number, change), seq) is None
    return view


def reported(view: DictView, *items: CanaryItem) -> Decided | str | None:
    """Let the first validators report, and return what the last report brought."""
    found = None
    for signer, one in enumerate(items):
        assert found is None
        found = report(view, WORLD.voters, signer, one)
    return found


def test_a_new_version_waits_for_the_validators_and_the_old_one_stays() -> None:
    view = proposed(NEXT)
    assert [one.challenge for one in candidates(view)] == [NEXT]
    active = challenge(view, "alpha")
    assert active is not None
    assert active.version == 1


def test_a_quorum_of_equal_results_activates() -> None:
    view = proposed(NEXT)
    decided = reported(view, item(), item(), item())
    assert isinstance(decided, Decided)
    assert (decided.challenge, decided.reason) == (NEXT, "")
    assert challenge(view, "alpha") == NEXT
    assert candidates(view) == []
    assert not list(view.items(keys.CANARY_DEADLINE))


def test_one_mismatch_does_not_block_and_is_named() -> None:
    view = proposed(NEXT)
    decided = reported(view, FAILED, item(), item(), item())
    assert isinstance(decided, Decided)
    assert decided.reason == ""
    kept = read(view, keys.Decision, keys.DECISION + b"alpha")
    assert kept is not None
    [named] = [one for one in kept.reports if one.failure]
    assert named.hotkey == WORLD.voters.members[0].hotkey
    assert named.failure == "deep recursion: ok, expected trap"


@pytest.mark.parametrize(
    "items",
    [
        (FAILED, FAILED),
        (item(), item(), FAILED, item(results=sha256(b"other"))),
        (item(), item(results=sha256(b"other")), item(results=sha256(b"third"))),
    ],
)
def test_what_cannot_reach_a_quorum_any_more_is_refused(items: tuple[CanaryItem, ...]) -> None:
    view = proposed(NEXT)
    decided = reported(view, *items)
    assert isinstance(decided, Decided)
    assert decided.reason == "mismatch"
    active = challenge(view, "alpha")
    assert active is not None
    assert active.version == 1
    assert candidates(view) == []


def test_who_says_nothing_for_too_long_lets_it_be_refused() -> None:
    view = proposed(NEXT, seq=10)
    assert reported(view, item(), item()) is None
    assert expire(view, 10 + CANARY_SLOTS - 1) == []
    [decided] = expire(view, 10 + CANARY_SLOTS)
    assert (decided.reason, len(decided.reports)) == ("timeout", 2)
    assert report(view, WORLD.voters, 2, item()) == "no_candidate"


def test_a_newer_change_replaces_the_candidate() -> None:
    newer = make_challenge("alpha", version=3)
    view = proposed(NEXT, newer)
    assert [one.challenge for one in candidates(view)] == [newer]
    assert report(view, WORLD.voters, 0, item()) == "no_candidate"
    assert isinstance(reported(view, *[item(newer)] * 3), Decided)
    assert challenge(view, "alpha") == newer


def test_a_second_report_is_a_no_op() -> None:
    view = proposed(NEXT)
    assert reported(view, FAILED) is None
    assert report(view, WORLD.voters, 0, item()) == "second_report"


def test_the_emission_alone_changes_at_once() -> None:
    active = challenge(WORLD.state(), "alpha")
    assert active is not None
    richer = replaced(active, emission=9)
    view = proposed(richer)
    assert challenge(view, "alpha") == richer
    assert candidates(view) == []


def test_retiring_needs_no_vectors_and_drops_the_candidate() -> None:
    view = proposed(NEXT, replaced(NEXT, emission=0))
    assert challenge(view, "alpha") is None
    assert candidates(view) == []
    assert not list(view.items(keys.CANARY_DEADLINE))
