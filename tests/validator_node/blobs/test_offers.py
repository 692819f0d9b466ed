from __future__ import annotations

from protocol.codec import sha256
from validator_node.blobs.offers import Offers


def test_a_body_is_found_by_its_hash_until_it_is_dropped():
    offers = Offers()
    offers.add(b"1", b"a body", 5.0)
    assert offers.body(sha256(b"a body")) == b"a body"
    assert offers.open() == [(b"1", 5.0)]
    offers.drop(b"1")
    offers.drop(b"1")
    assert offers.body(sha256(b"a body")) is None
    assert (len(offers), offers.bytes_offered) == (0, 0)


def test_the_oldest_gives_way():
    offers = Offers(max_bytes=10)
    for name in (b"1", b"2", b"3"):
        offers.add(name, name * 4, 0.0)
    assert [name for name, _ in offers.open()] == [b"2", b"3"]
    assert (offers.bytes_offered, offers.dropped) == (8, 1)
    assert offers.body(sha256(b"1111")) is None


def test_the_newest_is_offered_however_long_it_is():
    offers = Offers(max_bytes=10)
    offers.add(b"1", b"short", 0.0)
    offers.add(b"2", bytes(20), 0.0)
    assert offers.open() == [(b"2", 0.0)]


def test_two_submissions_of_one_body():
    offers = Offers()
    offers.add(b"1", b"a body", 0.0)
    offers.add(b"2", b"a body", 0.0)
    offers.drop(b"1")
    assert offers.body(sha256(b"a body")) == b"a body"
    offers.drop(b"2")
    assert offers.body(sha256(b"a body")) is None


def test_room_is_what_takes_nobodys_place():
    offers = Offers(max_bytes=10)
    assert offers.has_room_for(20)  # the first is offered however long it is
    offers.add(b"1", b"six by", 0.0)
    assert offers.has_room_for(4)
    assert not offers.has_room_for(5)
