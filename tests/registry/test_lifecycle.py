"""Candidates: who decides about them, and what the state keeps."""

from __future__ import annotations

import pytest

from consensus.validators import Voters
from protocol.codec import ZERO_DIGEST, digest_of, encode, sha256
from protocol.records.canary import MAX_FAILURE_CHARS, CanaryItem
from protocol.records.challenge import MAX_DATA_BLOBS, Challenge, DataBlob
from protocol.records.genesis import MAX_CHALLENGES
from protocol.records.validators import MAX_VALIDATORS, Validator, ValidatorSet
from protocol.view import DictView
from registry import keys
from registry.access import challenge, challenges, read, write
from registry.catalog import apply_registry_change
from registry.lifecycle import (
    CANARY_SLOTS,
    Decided,
    candidates,
    expire,
    propose,
    rejudge,
    report,
    waiting,
)
from storage.state import MAX_VALUE_BYTES
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


def test_how_long_a_candidate_waits_is_part_of_execution() -> None:
    assert CANARY_SLOTS == 4096


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
    assert not list(view.items(keys.CANDIDATE_OF))


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


def refused(view: DictView, number: int, change: Challenge) -> str | None:
    """Return why a change does not apply, having seen that it changed nothing."""
    before = dict(view.entries)
    reason = apply_registry_change(view, WORLD.change(number, change), 20)
    assert reason is None or view.entries == before
    return reason


def test_emission_zero_brings_no_module_past_the_canary() -> None:
    unseen = replaced(make_challenge("alpha", version=9, emission=0), module_hash=sha256(b"new"))
    view = proposed(unseen)
    kept = read(view, Challenge, keys.CHALLENGE + b"alpha")
    first = challenge(WORLD.state(), "alpha")
    assert first is not None
    assert kept == replaced(first, emission=0)
    assert refused(view, 2, replaced(unseen, emission=100)) is None
    assert challenge(view, "alpha") is None, "it has to pass the canary"
    assert [one.challenge.version for one in candidates(view)] == [9]


def test_a_retired_challenge_comes_back_at_once_as_it_was() -> None:
    active = challenge(WORLD.state(), "alpha")
    assert active is not None
    view = proposed(replaced(active, emission=0), replaced(active, emission=7))
    assert challenge(view, "alpha") == replaced(active, emission=7)
    assert candidates(view) == []


def test_only_what_is_known_can_be_retired() -> None:
    assert refused(WORLD.state(), 1, make_challenge("gamma", emission=0)) == "unknown_challenge"


@pytest.mark.parametrize("version", [0, 1])
def test_a_version_rises(version: int) -> None:
    again = replaced(make_challenge("alpha", version=version), module_hash=sha256(b"other"))
    assert refused(WORLD.state(), 1, again) == "version"


def test_no_more_challenges_than_a_genesis_may_have() -> None:
    view = WORLD.state()
    for number in range(MAX_CHALLENGES - 3):
        write(view, keys.CHALLENGE + b"filled%d" % number, make_challenge(f"filled{number}"))
    assert propose(view, make_challenge("last"), 1) is None
    assert len(challenges(view)) + len(candidates(view)) == MAX_CHALLENGES
    assert refused(view, 1, make_challenge("gamma")) == "too_many_challenges"
    assert refused(view, 1, NEXT) is None, "its id is counted already"
    active = challenge(view, "beta")
    assert active is not None
    assert refused(view, 2, replaced(active, emission=0)) is None
    assert refused(view, 3, make_challenge("gamma")) is None
    assert refused(view, 4, active) == "too_many_challenges", "its place was taken"


def test_a_candidate_is_found_by_its_digest_as_long_as_it_waits() -> None:
    view = proposed(NEXT)
    found = waiting(view, digest_of(NEXT))
    assert found is not None
    assert found.challenge == NEXT
    proposed_anew = make_challenge("alpha", version=3)
    assert apply_registry_change(view, WORLD.change(2, proposed_anew), 11) is None
    assert waiting(view, digest_of(NEXT)) is None
    assert [key for _, key in view.items(keys.CANDIDATE_OF)] == [b"alpha"]


def members(count: int, salt: bytes = b"") -> tuple[Validator, ...]:
    return tuple(
        Validator(
            hotkey=sha256(salt, b"hotkey%d" % number),
            consensus_key=sha256(salt, b"key%d" % number),
            weight=1,
        )
        for number in range(count)
    )


def voters_of(epoch: int, *chosen: Validator) -> Voters:
    return Voters(ValidatorSet(epoch=epoch, members=chosen), WORLD.network_id, after=epoch)


def test_reports_of_all_sets_that_ever_were_fit_into_one_value() -> None:
    blobs = tuple(
        DataBlob(key=b"%064d" % number, digest=sha256(b"blob")) for number in range(MAX_DATA_BLOBS)
    )
    large = replaced(NEXT, params=bytes(16_384), policy=replaced(NEXT.policy, data=blobs))
    view = proposed(large)
    longest = "\N{GRINNING FACE}" * MAX_FAILURE_CHARS
    for epoch in range(3):
        voters = voters_of(epoch, *members(MAX_VALIDATORS, bytes([epoch])))
        for signer in range(MAX_VALIDATORS // 3):
            said = item(large, sha256(b"%d" % signer), failure=longest)
            assert report(view, voters, signer, said) is None
        [candidate] = candidates(view)
        assert len(candidate.reports) == MAX_VALIDATORS // 3
    one = keys.Report(hotkey=bytes(32), results=bytes(32), failure=longest)
    fullest = replaced(candidate, reports=(one,) * MAX_VALIDATORS)
    assert len(encode(fullest)) <= MAX_VALUE_BYTES


def test_a_new_set_judges_what_was_reported_before_it() -> None:
    stays = WORLD.voters.members
    view = proposed(NEXT)
    assert reported(view, item(), item()) is None
    smaller = voters_of(1, *stays[:2])
    electorate = keys.Electorate(voters=smaller.validator_set, since=30, reason="")
    write(view, keys.VOTERS, electorate)
    assert rejudge(view, smaller, 30) == []
    assert rejudge(view, smaller, 32) == []
    [decided] = rejudge(view, smaller, 31)
    assert (decided.challenge, decided.reason) == (NEXT, "")
    assert challenge(view, "alpha") == NEXT
    assert rejudge(view, smaller, 31) == []


def test_a_new_set_keeps_a_candidate_open_that_it_has_not_judged() -> None:
    view = proposed(NEXT)
    assert reported(view, FAILED) is None
    others = voters_of(1, *members(4))
    write(view, keys.VOTERS, keys.Electorate(voters=others.validator_set, since=30, reason=""))
    assert rejudge(view, others, 31) == []
    [candidate] = candidates(view)
    assert candidate.reports == ()
