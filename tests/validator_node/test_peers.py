from __future__ import annotations

import pytest

from consensus.validators import Voters
from protocol.codec import encode
from protocol.errors import DecodeError, ProtocolError, SignatureError, TooLargeError
from tests.support import STRANGER, World, replaced
from validator_node import peers as peers_module
from validator_node.peers import MAX_RECORD_BYTES, Peers

WORLD = World()


@pytest.fixture
def peers() -> Peers:
    return Peers(WORLD.voters, WORLD.network_id)


def test_a_validator_introduces_itself(peers: Peers) -> None:
    assert peers.index("peer-2") is None
    assert peers.peer_id(2) is None
    assert peers.introduce("peer-2", encode(WORLD.node_record(2, "peer-2"))) == 2
    assert peers.index("peer-2") == 2
    assert peers.peer_id(2) == "peer-2"
    assert peers.index("peer-1") is None


def test_a_newer_record_moves_a_validator(peers: Peers) -> None:
    peers.introduce("old", encode(WORLD.node_record(0, "old", sequence=1)))
    peers.introduce("new", encode(WORLD.node_record(0, "new", sequence=2)))
    assert (peers.index("old"), peers.index("new")) == (None, 0)
    assert peers.peer_id(0) == "new"
    with pytest.raises(ProtocolError, match="older record of validator 0"):
        peers.introduce("old", encode(WORLD.node_record(0, "old", sequence=1)))
    assert (peers.index("old"), peers.index("new")) == (None, 0)


def test_a_peer_proves_itself_even_with_an_older_record(peers: Peers) -> None:
    """Its clock was set back before it restarted."""
    peers.introduce("peer", encode(WORLD.node_record(0, "peer", sequence=2)))
    older = encode(WORLD.node_record(0, "peer", sequence=1))
    assert peers.introduce("peer", older) == 0
    assert (peers.index("peer"), peers.peer_id(0)) == (0, "peer")
    forged = replaced(WORLD.node_record(0, "peer", sequence=1), signature=bytes(64))
    with pytest.raises(SignatureError):
        peers.introduce("peer", encode(forged))


def test_the_same_record_again_is_fine(peers: Peers) -> None:
    record = encode(WORLD.node_record(0, "peer", sequence=1))
    assert peers.introduce("peer", record) == peers.introduce("peer", record) == 0
    assert peers.index("peer") == 0


REFUSED = {
    "another peer": (WORLD.node_record(0, "somebody"), ProtocolError, "names peer somebody"),
    "hotkey not in the set": (
        WORLD.node_record(0, "peer", hotkey=STRANGER.public_key),
        ProtocolError,
        "not in the validator set",
    ),
    "key not in the set": (
        WORLD.node_record(0, "peer", consensus_key=bytes(32)),
        ProtocolError,
        "not in the validator set",
    ),
    "key of another validator": (
        WORLD.node_record(0, "peer", consensus_key=WORLD.keys[1].public_key),
        ProtocolError,
        "not in the validator set",
    ),
    "signature": (
        replaced(WORLD.node_record(0, "peer"), signature=bytes(64)),
        SignatureError,
        "did not sign",
    ),
    "sequence not signed": (
        replaced(
            WORLD.node_record(0, "peer"),
            record=replaced(WORLD.node_record(0, "peer").record, sequence=9),
        ),
        SignatureError,
        "did not sign",
    ),
    "another network": (
        World(name="other").node_record(0, "peer"),
        SignatureError,
        "did not sign",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(peers: Peers, what: str) -> None:
    record, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        peers.introduce("peer", encode(record))
    assert peers.index("peer") is None
    assert peers.peer_id(0) is None


def test_a_record_is_bounded_and_canonical(peers: Peers) -> None:
    with pytest.raises(TooLargeError):
        peers.introduce("peer", bytes(MAX_RECORD_BYTES + 1))
    with pytest.raises(DecodeError):
        peers.introduce("peer", encode(WORLD.node_record(0, "peer")) + b"\0")
    many = WORLD.node_record(0, "peer", addresses=("/ip4/127.0.0.1/tcp/1",) * 17)
    with pytest.raises(DecodeError):
        peers.introduce("peer", encode(many))


def test_a_new_epoch_has_its_own_indices(peers: Peers) -> None:
    for index in (0, 1, 3):
        peers.introduce(f"peer-{index}", encode(WORLD.node_record(index, f"peer-{index}")))
    members = WORLD.genesis.validators.members
    next_set = replaced(WORLD.genesis.validators, epoch=1, members=(members[3], members[0]))
    peers.begin_epoch(Voters(next_set, WORLD.network_id, after=10))
    assert [peers.index(f"peer-{index}") for index in (0, 1, 3)] == [1, None, 0]
    assert [peers.peer_id(index) for index in (0, 1, 2)] == ["peer-3", "peer-0", None]
    with pytest.raises(ProtocolError, match="not in the validator set"):
        peers.introduce("peer-1", encode(WORLD.node_record(1, "peer-1", sequence=2)))


def test_who_comes_back_is_known_by_the_link_that_stayed(peers: Peers) -> None:
    members = WORLD.genesis.validators.members

    def begin(epoch: int, *chosen: int) -> None:
        taken = tuple(members[index] for index in chosen)
        next_set = replaced(WORLD.genesis.validators, epoch=epoch, members=taken)
        peers.begin_epoch(Voters(next_set, WORLD.network_id, after=10))

    for index in (0, 3):
        peers.introduce(f"peer-{index}", encode(WORLD.node_record(index, f"peer-{index}")))
    begin(1, 0, 1)
    assert (peers.index("peer-3"), peers.peer_id(1)) == (None, None)
    begin(2, 0, 1)
    begin(3, 3, 0)
    assert [peers.index(f"peer-{index}") for index in (0, 3)] == [1, 0]


def test_of_those_who_left_a_bounded_number_is_kept(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "MAX_LEFT", 1)
    members = WORLD.genesis.validators.members
    for index in range(4):
        peers.introduce(f"peer-{index}", encode(WORLD.node_record(index, f"peer-{index}")))
    alone = replaced(WORLD.genesis.validators, epoch=1, members=members[:1])
    peers.begin_epoch(Voters(alone, WORLD.network_id, after=10))
    everyone = WORLD.genesis.validators.for_epoch(2)
    peers.begin_epoch(Voters(everyone, WORLD.network_id, after=10))
    assert [peers.peer_id(index) for index in range(4)] == ["peer-0", None, None, "peer-3"]
