"""Who is in a mesh, decided without a network."""

from __future__ import annotations

from validator_node.network.mesh import (
    DEGREE,
    EXPLORE_BEATS,
    HIGH,
    LOW,
    RESERVED,
    RESERVED_HIGH,
    SILENT_BEATS,
    SILENT_MESSAGES,
    TopicMesh,
)


class Place:
    """A mesh whose plans are carried out; peers named `m...` are reserved."""

    def __init__(self, *subscribed: str) -> None:
        self.mesh = TopicMesh[str](set(), lambda peer: peer.startswith("m"), sorted)
        self.subscribed = set(subscribed)
        self.back_off: set[str] = set()

    def beat(self, times: int = 1) -> None:
        for _ in range(times):
            plan = self.mesh.plan(self.subscribed, lambda peer: peer not in self.back_off)
            assert not set(plan.graft) & self.mesh.peers
            assert set(plan.prune) <= self.mesh.peers
            self.mesh.peers.difference_update(plan.prune)
            self.back_off.update(plan.prune)
            self.mesh.peers.update(plan.graft)

    def graft(self, *peers: str) -> list[str]:
        taken = []
        for peer in peers:
            self.subscribed.add(peer)
            if self.mesh.takes(peer):
                self.mesh.peers.add(peer)
                taken.append(peer)
        return taken

    def deliver(self, peer: str, count: int = 1) -> None:
        for _ in range(count):
            self.mesh.on_delivery(peer)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:02}" for number in range(count)]


def test_a_mesh_is_filled_to_its_degree_and_no_further() -> None:
    place = Place(*names("s", 20))
    place.beat()
    assert len(place.mesh.peers) == DEGREE
    place.beat(100)
    assert len(place.mesh.peers) == DEGREE


def test_strangers_graft_themselves_until_the_mesh_is_high() -> None:
    place = Place()
    assert len(place.graft(*names("s", 30))) == HIGH
    place.beat(100)
    assert len(place.mesh.peers) == HIGH


def test_members_come_in_beside_them_and_stay() -> None:
    place = Place()
    place.graft(*names("s", 30))
    place.subscribed.update(names("m", 5))
    place.beat()
    place.deliver("elsewhere", 1_000)
    for _ in range(50):
        place.deliver("elsewhere", 10)
        place.beat()
        assert set(names("m", 5)) <= place.mesh.peers


def test_reserved_places_are_bounded_too() -> None:
    place = Place(*names("m", 60))
    place.beat()
    assert len(place.mesh.peers) == RESERVED
    assert (
        len(place.graft(*sorted(place.subscribed - place.mesh.peers))) == RESERVED_HIGH - RESERVED
    )


def test_who_becomes_a_stranger_is_pruned_down_to_high() -> None:
    place = Place()
    place.mesh.peers.update(names("s", 20))
    place.subscribed.update(names("s", 20))
    place.beat()
    assert len(place.mesh.peers) == HIGH


def test_silent_strangers_give_way_to_who_delivers() -> None:
    place = Place()
    place.graft(*names("s", 30))
    honest = names("h", 3)
    assert place.graft(*honest) == []
    for _ in range(SILENT_BEATS + 4):
        for peer in honest:
            place.deliver(peer, 3)  # outside the mesh: it offers and is asked
        place.beat()
    assert set(honest) <= place.mesh.peers
    assert len(place.mesh.peers) <= HIGH


def test_who_has_delivered_is_taken_beside_silent_ones() -> None:
    place = Place()
    place.graft(*names("s", HIGH))
    place.beat(SILENT_BEATS)
    place.deliver("h", SILENT_MESSAGES)
    place.beat()
    place.subscribed.add("h")
    assert "h" in place.mesh.peers or place.graft("h") == ["h"]


def test_on_a_quiet_topic_nobody_is_silent() -> None:
    place = Place(*names("s", 20))
    place.beat()
    before = set(place.mesh.peers)
    place.deliver("s19", SILENT_MESSAGES - 1)
    place.subscribed.discard("s19")
    place.beat(500)
    assert place.mesh.peers == before


def test_while_few_are_useful_the_silent_are_exchanged_one_at_a_time() -> None:
    place = Place(*names("s", 20))
    place.beat()
    before = set(place.mesh.peers)
    for _ in range(SILENT_BEATS + EXPLORE_BEATS):
        place.deliver("a miner", 5)
        place.beat()
    assert len(before - place.mesh.peers) == 1
    assert len(place.mesh.peers) == DEGREE
    for _ in range(EXPLORE_BEATS):
        place.deliver("a miner", 5)
        place.beat()
    assert len(before - place.mesh.peers) == 2


def test_with_enough_useful_ones_the_silent_are_left_alone() -> None:
    place = Place(*names("s", 20))
    place.beat()
    before = sorted(place.mesh.peers)
    for _ in range(100):
        for peer in before[:LOW]:
            place.deliver(peer, 5)
        place.beat()
    assert place.mesh.peers == set(before)


def test_where_there_is_nobody_else_the_silent_stay() -> None:
    place = Place(*names("s", 5))
    for _ in range(100):
        place.deliver("s00", 5)
        place.beat()
    assert place.mesh.peers == place.subscribed


def test_who_left_the_topic_leaves_the_mesh() -> None:
    place = Place(*names("s", 5))
    place.beat()
    place.subscribed.discard("s00")
    place.beat()
    assert "s00" not in place.mesh.peers


def test_back_off_is_kept_even_for_members() -> None:
    place = Place("m1", "s1")
    place.back_off = {"m1", "s1"}
    place.beat(3)
    assert not place.mesh.peers
    assert place.graft("m1") == ["m1"]


def test_merit_is_lived_down() -> None:
    mesh = TopicMesh[str](set(), lambda _: False)
    mesh.on_delivery("s")
    for _ in range(30):
        mesh.plan((), lambda _: True)
    assert 0.4 < mesh.merit("s") < 0.6
    for _ in range(200):
        mesh.plan((), lambda _: True)
    assert mesh.merit("s") == 0
