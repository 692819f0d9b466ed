"""Discovery between real nodes on loopback."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from structlog.testing import capture_logs

from consensus.validators import Voters
from protocol.codec import decode, encode
from protocol.records.validators import MAX_EXCHANGED, PeerExchangeReply, PeerExchangeRequest
from tests.support import World, replaced
from tests.validator_node.discovery.support import WORLD, Memory, Running, discovering, signer
from tests.validator_node.network.support import config, nodes, until
from validator_node.discovery import service
from validator_node.discovery.service import MAX_REPLY_BYTES, PEERS_PROTOCOL
from validator_node.network import Links, Network, open_network
from validator_node.network.gossip import CheckAnswer
from validator_node.network.mdns import LocalPeers

DEADLINE_S = 20.0


async def connected(node: Running, *others: Running) -> None:
    wanted = {other.network.peer_id for other in others}
    with trio.fail_after(DEADLINE_S):
        await node.network.wait_peers(lambda peers: wanted <= peers)


async def test_three_nodes_of_which_one_is_known_find_each_other() -> None:
    async with discovering(1) as middle:
        (known,) = middle.network.addresses
        async with discovering(0, known) as first, discovering(2, known) as last:
            await connected(first, middle, last)
            await connected(last, middle, first)
            assert last.network.peer_id in first.discovery.expected
            await until(lambda: first.knows(last) and last.knows(first))


async def test_a_node_back_on_another_port_is_found_by_its_newer_record() -> None:
    async with discovering(1) as middle:
        (known,) = middle.network.addresses
        saved = Memory()
        async with discovering(0, known) as first:
            async with discovering(2, known, saved=saved) as last:
                await connected(first, last)
                old = last.network.addresses
            with trio.fail_after(DEADLINE_S):
                await first.network.wait_lost(last.network.peer_id)
            # It dials only `middle`, so that `first` has to find it.
            async with discovering(2, known, peer_exchange=False) as again:
                assert again.network.addresses != old
                await connected(first, again)
                await until(lambda: first.knows(again))


async def test_the_book_is_enough_after_a_restart() -> None:
    """The known node is gone when the first one comes back: its saved book leads to the last."""
    saved = Memory()
    async with discovering(1) as middle, discovering(2, *middle.network.addresses) as last:
        async with discovering(0, *middle.network.addresses, saved=saved) as first:
            await connected(first, last)
        with trio.fail_after(DEADLINE_S):
            await last.network.wait_lost(first.network.peer_id)
        before = first.discovery.record.record.sequence
        async with discovering(0, saved=saved) as again:
            assert again.discovery.record.record.sequence > before
            await connected(again, last)


async def test_an_unreadable_book_is_reported_and_left_behind() -> None:
    saved = Memory()
    saved.data = b"garbage"
    with capture_logs() as logs:
        async with discovering(0, saved=saved) as node:
            assert len(node.discovery.book) == 0
    assert any("unreadable" in entry["event"] for entry in logs)
    assert saved.data != b"garbage"


async def test_without_peer_exchange_only_the_bootstrap_list_is_dialled() -> None:
    async with discovering(1) as middle, discovering(2) as last:
        middle.network.add_bootstrap(last.network.addresses[0])
        async with discovering(0, *middle.network.addresses, peer_exchange=False) as first:
            await until(lambda: last.knows(first))  # it is announced all the same
            await connected(last, first)  # and others may dial it
            assert set(first.discovery._kept) == {middle.network.peer_id}


async def test_only_members_of_the_set_are_expected_to_be_validators() -> None:
    members = WORLD.genesis.validators.members
    neurons = frozenset(member.hotkey for member in members)
    async with (
        discovering(1, is_neuron=neurons.__contains__) as node,
        discovering(2, *node.network.addresses) as other,
    ):
        changes: list[set[str]] = []
        expected = node.discovery.expected
        node.discovery.changed.append(lambda: changes.append(set(expected)))
        await until(lambda: changes == [{other.network.peer_id}])
        left = replaced(WORLD.genesis.validators, epoch=1, members=members[:2])
        node.discovery.begin_epoch(Voters(left, WORLD.network_id, after=10))
        assert changes[1:] == [set()]
        assert node.knows(other)  # still a neuron
        node.discovery.begin_epoch(WORLD.voters)
        assert changes[2:] == [{other.network.peer_id}]


async def test_a_record_is_forgotten_with_its_place_in_the_set() -> None:
    members = WORLD.genesis.validators.members
    async with discovering(1) as node, discovering(2, *node.network.addresses) as other:
        await until(lambda: other.network.peer_id in node.discovery._kept)
        left = replaced(WORLD.genesis.validators, epoch=1, members=members[:2])
        node.discovery.begin_epoch(Voters(left, WORLD.network_id, after=10))
        assert not node.knows(other)
        await until(lambda: other.network.peer_id not in node.discovery._kept)
        assert node.network._connections._bootstrap == {}


# --- hostile peers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "charged"),
    [("bad_signature", True), ("not_newer", False), ("malformed", True), ("unknown_hotkey", False)],
)
async def test_what_gossip_brings_is_checked(reason: str, charged: bool) -> None:
    async with discovering(1) as node, open_network(config(9, *node.network.addresses)) as peer:
        node.discovery.book.take(WORLD.node_record(3, peer.peer_id, sequence=5), peer.peer_id)
        newer = WORLD.node_record(3, peer.peer_id, sequence=6)
        data = {
            "bad_signature": encode(replaced(newer, signature=bytes(64))),
            "not_newer": encode(WORLD.node_record(3, peer.peer_id, sequence=4)),
            "malformed": b"garbage",
            "unknown_hotkey": encode(World((1,) * 8).node_record(7, peer.peer_id)),
        }[reason]
        with trio.fail_after(DEADLINE_S):
            await peer.wait_subscriber(node.discovery.topic)
            await peer.publish(node.discovery.topic, data)
        await until(lambda: node.network.counters["refused", f"node_record_{reason}"] == 1)
        assert (node.network.score(peer.peer_id) > 0) == charged
        entry = node.discovery.book.get(WORLD.hotkeys[3].public_key)
        assert entry is not None
        assert entry.signed.record.sequence == 5


async def test_a_record_of_another_network_is_refused() -> None:
    other = World(name="other")
    async with discovering(1) as node:
        address = node.network.addresses[0]
        async with discovering(2, address, world=other) as foreign:
            await until(lambda: node.network.counters["refused", "node_record_bad_signature"] >= 1)
            assert not node.knows(foreign)


async def test_a_flood_of_records_stays_within_the_forwarders_budget() -> None:
    """All at once, as no network could bring them: the machine's speed does not matter."""
    flood = [encode(WORLD.node_record(3, "1" * 50, sequence=number)) for number in range(400)]
    async with discovering(1) as node:
        answers = Counter(node.discovery._check("flooder", data) for data in flood)
        refused = node.network.counters
        assert answers[CheckAnswer.ACCEPT] <= 5
        assert refused["refused", "node_record_too_often"] >= 90
        assert refused["refused", "node_record_budget"] >= 250
        assert answers[CheckAnswer.REJECT] == 0
        assert len(node.discovery.book) == 1
        other = encode(WORLD.node_record(2, "1" * 50))
        assert node.discovery._check("somebody else", other) is CheckAnswer.ACCEPT


async def exchange(peer: Network, node: Running, data: bytes) -> bytes:
    return await peer.request(
        node.network.peer_id,
        PEERS_PROTOCOL,
        data,
        deadline_s=10,
        max_reply_bytes=MAX_REPLY_BYTES,
    )


async def test_who_asks_gets_a_bounded_sample_and_not_too_often() -> None:
    ask = encode(PeerExchangeRequest(limit=MAX_EXCHANGED))
    async with discovering(1) as node, open_network(config(9, *node.network.addresses)) as peer:
        for index in (0, 2, 3):
            record = WORLD.node_record(index, "1" * 50)
            node.discovery.book.take(record, "")
        with trio.fail_after(DEADLINE_S):
            await peer.wait_connected(1)
            replies = [await exchange(peer, node, ask) for _ in range(6)]
            small = await exchange(peer, node, encode(PeerExchangeRequest(limit=1)))
        sizes = [len(decode(PeerExchangeReply, reply).records) for reply in replies]
        assert sizes[:4] == [4] * 4
        assert 0 in sizes[4:]
        assert decode(PeerExchangeReply, replies[0]).records[0] == node.discovery.record
        assert len(decode(PeerExchangeReply, small).records) <= 1
        assert node.network.counters["refused", "peer_exchange_budget"] >= 1


async def test_a_garbled_question_gets_nothing_and_is_charged() -> None:
    async with discovering(1) as node, open_network(config(9, *node.network.addresses)) as peer:
        with trio.fail_after(DEADLINE_S):
            await peer.wait_connected(1)
            for garbage in (b"", b"garbage", encode([MAX_EXCHANGED + 1])):
                reply = decode(PeerExchangeReply, await exchange(peer, node, garbage))
                assert reply.records == ()
        assert node.network.score(peer.peer_id) > 2 * service.FORGED_COST
        assert node.network.counters["errors", "request_handler"] == 0


LIES = {
    "malformed": lambda: b"garbage",
    "bad_signature": lambda: encode(
        PeerExchangeReply(records=(replaced(WORLD.node_record(3, "1" * 50), signature=bytes(64)),))
    ),
}


@pytest.mark.parametrize("reason", LIES)
async def test_a_lying_reply_is_refused_and_charged(reason: str) -> None:
    async def lie(peer_id: str, data: bytes) -> bytes:
        return LIES[reason]()

    async with nodes(1, first=9) as (liar,):
        liar.serve(PEERS_PROTOCOL, lie, max_request_bytes=100, deadline_s=5)
        async with discovering(1, *liar.addresses) as node:
            await until(lambda: node.network.score(liar.peer_id) > 0)
            assert node.network.counters["refused", f"node_record_{reason}"] == 1
            assert len(node.discovery.book) == 0


async def test_a_peer_without_the_protocol_is_no_harm() -> None:
    async with nodes(1, first=9) as (plain,), discovering(1, *plain.addresses) as node:
        await until(lambda: node.network.counters["errors", "peer_exchange"] == 1)
        assert node.network.score(plain.peer_id) == 0


async def test_a_hotkey_that_names_another_peer_identifies_nobody() -> None:
    """Validator 3 names the peer id of validator 2: that adds an address to try, after its own."""
    async with discovering(1) as node, discovering(2, *node.network.addresses) as victim:
        await until(lambda: node.knows(victim))
        addresses = ("/ip4/127.0.0.1/tcp/9",)
        claim = signer(3, victim.network.peer_id)(addresses, 1)
        node.discovery.book.take(claim, "")
        node.discovery.begin_epoch(WORLD.voters)
        await until(lambda: len(node.discovery._kept.get(victim.network.peer_id, ())) == 2)
        kept = node.discovery._kept[victim.network.peer_id]
        assert kept[0] == victim.network.addresses[0]


async def test_nodes_find_each_other_on_the_local_network() -> None:
    """Neither knows the other; multicast DNS on the loopback interface brings them together."""

    def local(network: Network) -> LocalPeers:
        return LocalPeers(
            WORLD.network_id,
            network.peer_id,
            lambda: network.addresses,
            network.counters,
            interfaces=["127.0.0.1"],
        )

    async with discovering(1, local=local) as first, discovering(2, local=local) as second:
        await connected(first, second)
        await until(lambda: first.knows(second) and second.knows(first))


async def test_validators_found_this_way_get_their_links() -> None:
    """As the node wires it: `expected` says who is worth a link, `changed` when to look again."""

    def link(node: Running) -> Links:
        links = node.network.open_links(
            "/test/links/1",
            on_frame=lambda *_: None,
            wanted=node.discovery.expected.__contains__,
        )
        node.discovery.changed.append(links.reconsider)
        return links

    async with discovering(1) as middle:
        known = middle.network.addresses
        async with discovering(0, *known) as first, discovering(2, *known) as last:
            links = [link(node) for node in (first, middle, last)]
            with trio.fail_after(DEADLINE_S):
                for one in links:
                    await one.wait_up(2)
