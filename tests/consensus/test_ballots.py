"""Ballots: each signer once for each view and phase (rules 3 and 18)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.ballots import MAX_VIEWS, Ballots
from tests.consensus.builders import Signers, make_header, make_voters, patient

SIGNERS = Signers(make_voters(1, 1, 1, 1))
X, Y = make_header("x"), make_header("y")


def test_a_vote_is_known_and_found():
    ballots = Ballots()
    vote = SIGNERS.vote("prepare", 1, X)
    assert ballots.known(1, 0) is None
    assert ballots.add(vote) is None
    assert ballots.known(1, 0) == vote
    assert ballots.signatures("prepare", 0, X.digest) == {1: vote.signature}
    assert ballots.signatures("prepare", 1, X.digest) == {}
    assert ballots.signatures("prepare", 0, Y.digest) == {}
    assert ballots.signatures("reject", 0, X.digest) == {}


def test_the_same_vote_twice_counts_once():
    ballots = Ballots()
    assert ballots.add(SIGNERS.vote("prepare", 1, X)) is None
    assert ballots.add(SIGNERS.vote("prepare", 1, X)) is None
    assert len(ballots.signatures("prepare", 0, X.digest)) == 1


def test_rule_18_another_digest_is_returned_with_the_first_and_not_counted():
    ballots = Ballots()
    first = SIGNERS.vote("prepare", 1, X)
    ballots.add(first)
    assert ballots.add(SIGNERS.vote("prepare", 1, Y)) == first
    assert ballots.signatures("prepare", 0, Y.digest) == {}
    assert ballots.known(1, 0) == first


def test_rule_3_reject_and_approval_exclude_each_other():
    ballots = Ballots()
    first = SIGNERS.vote("reject", 1, X)
    ballots.add(first)
    assert ballots.add(SIGNERS.vote("prepare", 1, X)) == first
    assert ballots.signers("reject", 0) == {1}
    assert ballots.signers("prepare", 0) == set()


def test_rule_5_rejects_count_for_whatever_digest():
    ballots = Ballots()
    ballots.add(SIGNERS.vote("reject", 1, X))
    ballots.add(SIGNERS.vote("reject", 2, Y))
    ballots.add(SIGNERS.vote("reject", 3, Y, view=1))
    assert ballots.signers("reject", 0) == {1, 2}


def test_votes_of_one_signer_are_bounded():
    ballots = Ballots()
    for view in range(3 * MAX_VIEWS):
        ballots.add(SIGNERS.vote("commit", 1, X, view=view))
    views = [view for view, _ in ballots.choices()]
    assert views == list(range(2 * MAX_VIEWS, 3 * MAX_VIEWS))


VOTES = st.tuples(
    st.sampled_from(["prepare", "reject"]),
    st.integers(0, 3),
    st.sampled_from([X, Y]),
    st.integers(0, MAX_VIEWS - 1),
)


@patient
@given(st.lists(VOTES, max_size=30))
def test_rule_3_whatever_comes_each_signer_has_one_vote_for_a_view(votes: list):
    ballots, first = Ballots(), {}
    for kind, signer, header, view in votes:
        vote = SIGNERS.vote(kind, signer, header, view)
        known = first.setdefault((signer, view), vote)
        assert ballots.add(vote) == (None if known == vote else known)
    for (signer, view), vote in first.items():
        assert ballots.known(signer, view) == vote
        assert ballots.signatures(vote.kind, view, vote.digest)[signer] == vote.signature
    assert ballots.choices() == sorted({(v.view, v.digest) for v in first.values()})
