"""Which offered snapshots are tried, in which order, and who answers for what."""

from __future__ import annotations

from protocol.codec import sha256
from tests.consensus.builders import replaced, verify
from tests.validator_node.sync.test_trust import GENESIS, HANDOVERS, offer, snapshot
from validator_node.network.standing import Standing
from validator_node.sync.candidates import MAX_SIZE, Offered
from validator_node.sync.sources import Sources
from validator_node.sync.trust import SetChain


class Place:
    def __init__(self) -> None:
        self.now = 0.0
        self.standing: dict[str, Standing] = {}
        self.sources = Sources(
            lambda: self.now, lambda peer_id: self.standing.get(peer_id, Standing.STRANGER)
        )
        chain = SetChain(GENESIS, verify)
        chain.extend(HANDOVERS)
        self.offered = Offered(chain, self.sources)

    def found(self, offers, height=0, refused=()):
        found, _ = self.offered.candidates(offers, height, refused)
        return [(candidate.seq, set(candidate.holders)) for candidate in found]


def test_among_equals_what_most_offer_comes_first_then_the_newest():
    place = Place()
    lie = replaced(snapshot(3, 4000), certificate=snapshot(3, 3500).certificate)
    offers = {
        "a": offer(snapshot(3, 3000), snapshot(3, 2000)),
        "b": offer(snapshot(3, 3000)),
        "c": offer(snapshot(3, 3000, b"other manifest")),
        "liar": offer(lie),
    }
    assert place.found(offers) == [(3000, {"a", "b"}), (3000, {"c"}), (2000, {"a"})]
    found, liars = place.offered.candidates(offers, 0)
    assert liars == ["liar"]
    assert place.found(offers, refused={found[0].claim}) == [(3000, {"c"}), (2000, {"a"})]
    assert place.found(offers, height=2000) == [(3000, {"a", "b"}), (3000, {"c"})]


def test_who_says_another_size_of_the_same_manifest_answers_for_it_alone():
    place = Place()
    true = snapshot(3, 3000)
    lie = replaced(true, size=true.size * 1000)
    for offers in (
        {"honest": offer(true), "liar": offer(lie)},
        {"liar": offer(lie), "honest": offer(true)},
    ):
        found, liars = place.offered.candidates(offers, 0)
        assert liars == []
        assert {c.holders: c.offer.size for c in found} == {
            ("honest",): true.size,
            ("liar",): lie.size,
        }


def test_a_size_that_no_snapshot_has_is_a_lie():
    place = Place()
    huge = replaced(snapshot(3, 3000), size=MAX_SIZE + 1)
    assert place.offered.candidates({"liar": offer(huge)}, 0) == ([], ["liar"])


def test_one_voice_that_repeats_itself_is_one_voice():
    place = Place()
    offers = {
        "loud": offer(*[snapshot(3, 3000, b"mine")] * 4),
        "a": offer(snapshot(3, 3000)),
        "b": offer(snapshot(3, 3000)),
    }
    assert place.found(offers) == [(3000, {"a", "b"}), (3000, {"loud"})]


def test_invented_manifests_come_after_those_that_did_not_fail_however_new_they_are():
    place = Place()
    offers = {
        "liar": offer(snapshot(3, 4000, b"invented")),
        "honest": offer(snapshot(3, 3000)),
    }
    assert place.found(offers)[0] == (4000, {"liar"})
    place.sources.failed("liar")
    assert place.found(offers) == [(3000, {"honest"})]  # the other one is left alone for a while
    place.now += 10
    newer = {**offers, "liar": offer(snapshot(3, 4500, b"invented too"))}
    assert place.found(newer) == [(3000, {"honest"}), (4500, {"liar"})]


def test_a_member_comes_before_many_strangers():
    place = Place()
    place.standing["member"] = Standing.MEMBER
    offers = {f"stranger {i}": offer(snapshot(3, 4000, b"theirs")) for i in range(20)}
    offers["member"] = offer(snapshot(3, 3000))
    assert place.found(offers)[0] == (3000, {"member"})


def test_the_same_certificates_are_verified_once(monkeypatch):
    place = Place()
    proven = []
    prove = SetChain.prove
    monkeypatch.setattr(
        SetChain, "prove", lambda chain, s: (proven.append(s.manifest), prove(chain, s))
    )
    offers = {name: offer(snapshot(3, 3000)) for name in "abc"}
    assert len(place.found(offers)) == len(place.found(offers)) == 1
    assert proven == [sha256(b"m")]


def test_a_snapshot_of_an_unproven_set_waits_and_is_no_lie():
    place = Place()
    offered = Offered(SetChain(GENESIS, verify), place.sources)
    assert offered.candidates({"a": offer(snapshot(3, 3000))}, 0) == ([], [])
