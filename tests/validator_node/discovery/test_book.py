from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import digest_of, encode, sha256
from protocol.envelope import RecordKind, record_payload
from protocol.errors import DecodeError
from protocol.identity import Hotkey
from protocol.records.validators import NodeRecord, SignedNodeRecord
from tests.support import STRANGER, World, replaced
from validator_node.discovery import book as book_module
from validator_node.discovery.book import EXPIRY_S, AddressBook, RecordRefusedError
from validator_node.network.host import peer_id_of

WORLD = World()
IDS = [peer_id_of(bytes([i]) * 32) for i in range(8)]
START = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_book(
    clock: Clock, *, neurons: frozenset[bytes] = frozenset(), own: int = 0
) -> AddressBook:
    book = AddressBook(
        WORLD.network_id,
        WORLD.hotkeys[own].public_key,
        is_neuron=neurons.__contains__,
        now=clock,
        ticks=clock,
    )
    book.begin_epoch(hotkey.public_key for hotkey in WORLD.hotkeys)
    return book


@pytest.fixture
def book(clock: Clock) -> AddressBook:
    return make_book(clock)


def signed_by(
    hotkey: Hotkey,
    peer_id: str,
    sequence: int = 1,
    addresses: tuple[str, ...] = (),
    network_id: bytes = WORLD.network_id,
) -> SignedNodeRecord:
    record = NodeRecord(
        hotkey=hotkey.public_key,
        consensus_key=bytes(32),
        peer_id=peer_id,
        addresses=addresses,
        sequence=sequence,
    )
    payload = record_payload(RecordKind.NODE_RECORD, network_id, digest_of(record))
    return SignedNodeRecord(record=record, signature=hotkey.sign(payload))


def test_the_newest_sequence_wins(book: AddressBook) -> None:
    for sequence, peer in ((5, 1), (6, 2)):
        book.take(WORLD.node_record(1, IDS[peer], sequence=sequence), IDS[3])
    for sequence in (6, 5, 0):
        with pytest.raises(RecordRefusedError) as refused:
            book.take(WORLD.node_record(1, IDS[1], sequence=sequence), IDS[3])
        assert (refused.value.reason, refused.value.hostile) == ("not_newer", False)
    entry = book.get(WORLD.hotkeys[1].public_key)
    assert entry is not None
    assert entry.peer_id == IDS[2]
    assert len(book) == 1


VALID = WORLD.node_record(1, IDS[1])
REFUSED = {
    "bad_signature": (replaced(VALID, signature=bytes(64)), True),
    "not_newer": (WORLD.node_record(2, IDS[2], sequence=0), False),
    "unknown_hotkey": (signed_by(STRANGER, IDS[1]), False),
    "own": (WORLD.node_record(0, IDS[1]), False),
    "malformed": (WORLD.node_record(1, "nobody"), True),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_refused_changes_nothing(book: AddressBook, reason: str) -> None:
    book.take(WORLD.node_record(2, IDS[2], sequence=1), IDS[2])
    before = book.dump()
    signed, hostile = REFUSED[reason]
    with pytest.raises(RecordRefusedError) as refused:
        book.take(signed, IDS[5])
    assert (refused.value.reason, refused.value.hostile) == (reason, hostile)
    assert len(book) == 1
    if reason != "own":
        assert book.dump() == before


def test_a_record_of_another_network_is_refused(book: AddressBook) -> None:
    with pytest.raises(RecordRefusedError) as refused:
        book.take(World(name="other").node_record(1, IDS[1]), IDS[1])
    assert refused.value.reason == "bad_signature"


def test_a_record_longer_than_its_limit_is_refused(book: AddressBook) -> None:
    wide = WORLD.node_record(1, IDS[1], addresses=("\U0001f600" * 256,) * 16)
    for attempt in (lambda: book.take(wide, IDS[1]), lambda: book.read(encode(wide))):
        with pytest.raises(RecordRefusedError) as refused:
            attempt()
        assert refused.value.hostile


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with pytest.raises(RecordRefusedError):
        make_book(Clock()).read(data)


def test_a_hotkey_renews_four_times_at_once_and_then_slowly(
    book: AddressBook, clock: Clock
) -> None:
    for sequence in range(1, 5):
        book.take(WORLD.node_record(1, IDS[1], sequence=sequence), IDS[1])
    with pytest.raises(RecordRefusedError) as refused:
        book.take(WORLD.node_record(1, IDS[1], sequence=5), IDS[1])
    assert (refused.value.reason, refused.value.hostile) == ("too_often", False)
    book.take(WORLD.node_record(2, IDS[2]), IDS[1])
    clock.now += book_module.RENEWAL_S
    book.take(WORLD.node_record(1, IDS[1], sequence=6), IDS[1])


def test_forgeries_do_not_use_up_a_hotkeys_budget(book: AddressBook) -> None:
    for sequence in range(1, 20):
        forged = WORLD.node_record(1, IDS[1], sequence=sequence)
        with pytest.raises(RecordRefusedError):
            book.take(replaced(forged, signature=bytes(64)), IDS[5])
    assert book.take(WORLD.node_record(1, IDS[1]), IDS[1]).peer_id == IDS[1]


def test_what_the_peer_itself_told_us_is_vouched(book: AddressBook) -> None:
    assert not book.take(WORLD.node_record(1, IDS[1], sequence=1), IDS[2]).vouched
    assert book.take(WORLD.node_record(1, IDS[1], sequence=2), IDS[1]).vouched
    assert book.take(WORLD.node_record(1, IDS[1], sequence=3), IDS[2]).vouched
    assert not book.take(WORLD.node_record(1, IDS[3], sequence=4), IDS[2]).vouched


def test_a_record_expires_unless_its_peer_is_seen(book: AddressBook, clock: Clock) -> None:
    book.take(WORLD.node_record(1, IDS[1]), IDS[1])
    book.take(WORLD.node_record(2, IDS[2]), IDS[1])
    clock.now += EXPIRY_S - 1
    book.touch(frozenset({IDS[2]}))
    with pytest.raises(RecordRefusedError):
        book.take(WORLD.node_record(1, IDS[1]), IDS[1])  # told again: no sign of life
    clock.now += 2
    assert book.expire() == 1
    assert [entry.peer_id for entry in book.entries()] == [IDS[2]]


def test_who_leaves_the_set_and_the_subnet_is_forgotten(clock: Clock) -> None:
    keys = [hotkey.public_key for hotkey in WORLD.hotkeys]
    book = make_book(clock, neurons=frozenset({keys[1]}))
    for index in (1, 2, 3):
        book.take(WORLD.node_record(index, IDS[index]), IDS[index])
    book.begin_epoch({keys[3]})
    assert {entry.hotkey for entry in book.members()} == {keys[3]}
    assert {entry.hotkey for entry in book.others()} == {keys[1]}


def test_a_full_book_drops_the_stalest_stranger(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "MAX_RECORDS", 6)
    strangers = [Hotkey(sha256(b"stranger", bytes([i]))) for i in range(8)]
    book = make_book(clock, neurons=frozenset(h.public_key for h in strangers))
    for index in (1, 2, 3):
        book.take(WORLD.node_record(index, IDS[index]), IDS[index])
    for number, hotkey in enumerate(strangers):
        clock.now += 1
        book.take(signed_by(hotkey, IDS[number]), IDS[number])
        assert len(book) <= 6
    assert len(book.members()) == 3
    kept = {entry.hotkey for entry in book.others()}
    assert kept == {hotkey.public_key for hotkey in strangers[-3:]}


def test_the_book_survives_a_restart(book: AddressBook, clock: Clock) -> None:
    for index in (1, 2, 3):
        book.take(WORLD.node_record(index, IDS[index], sequence=7), IDS[1])
    sequence = book.next_sequence()
    clock.now -= 3600  # the clock was set back meanwhile
    again = make_book(clock)
    assert again.load(book.dump()) == 0
    assert [e.signed for e in again.entries()] == [e.signed for e in book.entries()]
    assert [e.vouched for e in again.entries()] == [True, False, False]
    assert again.next_sequence() == sequence + 1


def test_what_was_altered_on_the_disk_is_not_taken(book: AddressBook, clock: Clock) -> None:
    book.take(WORLD.node_record(1, IDS[1]), IDS[1])
    data = bytearray(book.dump())
    position = bytes(data).index(IDS[1].encode())
    data[position + 20] ^= 1
    assert make_book(clock).load(bytes(data)) == 1
    for garbage in (b"", b"garbage", bytes(100)):
        with pytest.raises(DecodeError):
            make_book(clock).load(garbage)


def test_an_expired_record_is_not_loaded(book: AddressBook, clock: Clock) -> None:
    book.take(WORLD.node_record(1, IDS[1]), IDS[1])
    clock.now += EXPIRY_S + 1
    again = make_book(clock)
    assert again.load(book.dump()) == 1
    assert len(again) == 0


def test_a_lost_folder_goes_on_above_its_former_sequence(book: AddressBook) -> None:
    ahead = int(START * 1000) + 10_000_000
    for signed in (
        WORLD.node_record(0, IDS[0], sequence=ahead),
        replaced(WORLD.node_record(0, IDS[0], sequence=ahead * 2), signature=bytes(64)),
    ):
        with pytest.raises(RecordRefusedError):
            book.take(signed, IDS[1])
    assert book.next_sequence() == ahead + 1
