from __future__ import annotations

import pytest

from protocol.codec import sha256
from protocol.identity import Hotkey
from tests.support import World
from tests.validator_node.discovery.test_book import Clock, make_book, signed_by
from validator_node.discovery.book import AddressBook
from validator_node.discovery.neighbours import ASIDE_S, EXTRA, MAX_DIALLED, PATIENCE_S, Neighbours
from validator_node.network.host import peer_id_of

WORLD = World()
OWN, *IDS = [peer_id_of(bytes([i]) * 32) for i in range(20)]
STRANGERS = [Hotkey(sha256(b"stranger", bytes([i]))) for i in range(12)]
NOBODY: frozenset[str] = frozenset()


def at(port: int) -> str:
    return f"/ip4/198.51.100.7/tcp/{port}"


@pytest.fixture
def book() -> AddressBook:
    return make_book(Clock(), neurons=frozenset(hotkey.public_key for hotkey in STRANGERS))


def tell(book: AddressBook, index: int, peer: int, *ports: int, by: int | None = None) -> None:
    record = WORLD.node_record(index, IDS[peer], addresses=tuple(at(port) for port in ports))
    book.take(record, IDS[peer if by is None else by])


def choose(neighbours: Neighbours, book: AddressBook, connected=NOBODY, now: float = 0.0):
    return neighbours.choose(book, frozenset(connected), now, loopback=False)


def test_members_and_configured_peers_are_kept(book: AddressBook) -> None:
    configured = {IDS[9]: (f"{at(9)}/p2p/{IDS[9]}",), IDS[1]: (f"{at(1)}/p2p/{IDS[1]}",)}
    tell(book, 1, 1, 1, 11)
    tell(book, 2, 2, 2)
    tell(book, 3, 3)  # says no address
    neighbours = Neighbours(OWN, configured)
    assert choose(neighbours, book) == {
        IDS[9]: configured[IDS[9]],
        IDS[1]: (*configured[IDS[1]], f"{at(11)}/p2p/{IDS[1]}"),
        IDS[2]: (f"{at(2)}/p2p/{IDS[2]}",),
    }
    assert neighbours.expected(book) == {IDS[1], IDS[2], IDS[3]}


def test_nobody_dials_itself(book: AddressBook) -> None:
    record = WORLD.node_record(1, OWN, addresses=(at(1),))
    book.take(record, OWN)
    neighbours = Neighbours(OWN, {})
    assert choose(neighbours, book) == {}
    assert neighbours.expected(book) == set()


def test_what_the_peer_itself_said_is_dialled_first_and_the_rest_is_bounded(
    book: AddressBook,
) -> None:
    tell(book, 2, 1, *range(20, 28), by=5)  # somebody else names its peer id
    tell(book, 3, 1, *range(30, 38), by=5)
    tell(book, 1, 1, 1, by=1)
    addresses = choose(Neighbours(OWN, {}), book)[IDS[1]]
    assert addresses[0] == f"{at(1)}/p2p/{IDS[1]}"
    assert len(addresses) == MAX_DIALLED


def strangers_are_told(book: AddressBook) -> None:
    for number, hotkey in enumerate(STRANGERS):
        signed = signed_by(hotkey, IDS[number], addresses=(at(number + 1),))
        book.take(signed, IDS[number])


def test_a_few_others_are_kept_and_each_node_chooses_its_own(book: AddressBook) -> None:
    strangers_are_told(book)
    choice = choose(Neighbours(OWN, {}), book)
    assert len(choice) == EXTRA
    assert choose(Neighbours(OWN, {}), book) == choice
    assert set(choose(Neighbours(IDS[18], {}), book)) != set(choice)


def test_connected_others_come_first(book: AddressBook) -> None:
    strangers_are_told(book)
    neighbours = Neighbours(OWN, {})
    left_out = [IDS[i] for i in range(12) if IDS[i] not in choose(neighbours, book)]
    assert set(left_out) <= set(choose(neighbours, book, left_out))


def test_who_does_not_come_up_is_put_aside_for_a_while(book: AddressBook) -> None:
    strangers_are_told(book)
    neighbours = Neighbours(OWN, {})
    first = set(choose(neighbours, book))
    up = sorted(first)[:6]
    assert set(choose(neighbours, book, up, PATIENCE_S - 1)) == first
    later = set(choose(neighbours, book, up, PATIENCE_S))
    assert set(up) <= later
    assert not (first - set(up)) & later
    assert len(later) == EXTRA
    # An unreachable choice is replaced in turn; after `ASIDE_S` the first ones may come again.
    choose(neighbours, book, up, 2 * PATIENCE_S)
    assert set(choose(neighbours, book, up, PATIENCE_S + ASIDE_S)) & (first - set(up))


def test_nobody_can_make_us_knock_at_our_own_doors(book: AddressBook) -> None:
    record = WORLD.node_record(1, IDS[1], addresses=("/ip4/127.0.0.1/tcp/22", "/ip4/0.0.0.0/tcp/1"))
    book.take(record, IDS[1])
    neighbours = Neighbours(OWN, {})
    assert neighbours.choose(book, NOBODY, 0.0, loopback=False) == {}
    assert neighbours.choose(book, NOBODY, 0.0, loopback=True) == {
        IDS[1]: (f"/ip4/127.0.0.1/tcp/22/p2p/{IDS[1]}",)
    }
