"""Whose requests are read and worked at when there is not room for all."""

import pytest

from validator_node.network.places import LOOPBACK_FACTOR
from validator_node.network.shares import (
    MEMBER_RESERVE,
    PER_ADDRESS,
    PER_PEER,
    READING_PER_PEER,
    READING_TOTAL,
    REGISTERED_RESERVE,
    TOTAL,
    RequestShares,
)
from validator_node.network.standing import Standing

KNOWN = {"member": Standing.MEMBER, "miner": Standing.REGISTERED, "boot": Standing.CONFIGURED}


def shares() -> RequestShares:
    return RequestShares(lambda peer_id: KNOWN.get(peer_id, Standing.STRANGER))


def fill(held: RequestShares, count: int) -> None:
    for number in range(count):
        assert held.begin_work(f"stranger {number}", f"192.0.2.{number}") is None


def test_a_peer_has_its_share_and_gets_it_back() -> None:
    held = shares()
    assert [held.begin_work("a", "192.0.2.1") for _ in range(PER_PEER)] == [None] * PER_PEER
    assert held.begin_work("a", "192.0.2.1") == "requests_per_peer"
    held.end_work("a", "192.0.2.1")
    assert held.begin_work("a", "192.0.2.1") is None


def test_peers_of_one_address_share() -> None:
    held = shares()
    for number in range(PER_ADDRESS):
        assert held.begin_work(f"stranger {number}", "192.0.2.1") is None
    assert held.begin_work("one more", "192.0.2.1") == "requests_per_address"
    assert held.begin_work("one more", "192.0.2.2") is None
    assert held.begin_work("member", "192.0.2.1") is None


def test_loopback_has_room_for_a_test_network() -> None:
    held = shares()
    for number in range(PER_ADDRESS + 1):
        assert held.begin_work(f"stranger {number}", "127.0.0.1") is None
    assert PER_ADDRESS * LOOPBACK_FACTOR > 2 * TOTAL


def test_who_has_none_under_way_goes_before_who_has() -> None:
    held = shares()
    fill(held, TOTAL)
    assert held.begin_work("stranger 0", "192.0.2.0") == "requests_total"
    assert held.begin_work("a newcomer", "192.0.2.250") is None


@pytest.mark.parametrize(("who", "extra"), [("miner", 16), ("member", 16), ("boot", 16)])
def test_what_strangers_fill_keeps_a_part(who: str, extra: int) -> None:
    held = shares()
    fill(held, 2 * TOTAL)
    assert held.begin_work("a newcomer", "198.51.100.1") == "requests_total"
    assert [held.begin_work(who, "198.51.100.2") for _ in range(extra)] == [None] * extra


def test_registered_hotkeys_do_not_take_the_part_of_members() -> None:
    held = RequestShares(
        lambda peer_id: KNOWN.get(peer_id.split(" ")[0], Standing.STRANGER),
    )
    fill(held, 2 * TOTAL)
    for number in range(REGISTERED_RESERVE):
        assert held.begin_work(f"miner {number}", f"198.51.100.{number}") is None
    assert held.begin_work("miner x", "198.51.100.200") == "requests_total"
    for number in range(MEMBER_RESERVE):
        assert held.begin_work(f"member {number}", "198.51.100.1") is None
    assert held.begin_work("member x", "198.51.100.1") == "requests_total"


def test_the_oldest_silent_stranger_makes_room() -> None:
    held, out = shares(), list[str]()
    assert held.begin_reading("key of a member", "member", lambda: out.append("member"))
    for number in range(READING_TOTAL - 1):
        assert held.begin_reading(number, f"s {number}", lambda n=number: out.append(f"s {n}"))  # type: ignore[misc]
    assert out == []
    assert held.begin_reading("new", "newcomer", lambda: None)
    assert out == ["s 0"]
    assert held.reading == READING_TOTAL
    held.end_reading(0)  # the one put out says so as well
    assert held.reading == READING_TOTAL


def test_a_peer_has_its_share_of_what_is_unread() -> None:
    held = shares()
    for number in range(READING_PER_PEER):
        assert held.begin_reading(number, "a", lambda: None)
    assert not held.begin_reading("x", "a", lambda: None)
    held.end_reading(0)
    assert held.begin_reading("x", "a", lambda: None)
