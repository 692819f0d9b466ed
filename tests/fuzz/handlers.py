"""Targets with a memory: what a running node keeps between one input and the next."""

from __future__ import annotations

import time
from typing import Any

from tests.fuzz.shapes import examples
from tests.fuzz.target import Site, Target
from validator_node.network.gossip import CheckAnswer

PEER = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
MANY = 1_000_000_000


def intake(site: Site) -> Target:
    """A gossip message on a submissions topic, each from a peer nobody knows yet."""
    from protocol.codec import encode
    from protocol.records.submission import SubmissionMessage
    from tests.support import World
    from tests.validator_node.test_intake import Site as IntakeSite
    from validator_node.store import Store

    world = World()
    store = site.stack.enter_context(
        _closing(Store.open(site.folder / "db", world.genesis, create=True))
    )
    place = IntakeSite(world, store, rate=MANY, max_pending=1_000)
    place.clock = time.monotonic
    posted = [world.posted(b"body %d" % n, miner=n % 4) for n in range(6)]
    messages = [(posted[0],), (posted[1], posted[2]), tuple(posted[3:])]
    count = 0

    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        taken = place.intake.check(place.topic, data, f"peer {count}") is CheckAnswer.ACCEPT
        assert isinstance(taken, bool)
        if not taken:
            raise RefusedError

    seeds = [encode(SubmissionMessage(posted=message)) for message in messages]
    return Target(run, (RefusedError,), (*seeds, *examples(SubmissionMessage)), True)


def owner_changes(site: Site) -> Target:
    """A gossip message on the topic of the owner's changes."""
    from protocol.actions import RegistryChange
    from protocol.codec import encode
    from tests.makers import make_challenge
    from tests.support import World
    from validator_node.owner.pool import WINDOW, RegistryPool
    from validator_node.store import Store

    world = World()
    store = site.stack.enter_context(
        _closing(Store.open(site.folder / "db", world.genesis, create=True))
    )
    pool = RegistryPool(store)

    def run(data: bytes) -> None:
        if pool.check(data) is not CheckAnswer.ACCEPT:
            raise RefusedError
        assert len(pool) <= WINDOW
        pool.next_change([])

    changes = [world.change(n, make_challenge(f"c{n}")) for n in range(1, WINDOW + 1)]
    return Target(run, (RefusedError,), (*map(encode, changes), *examples(RegistryChange)), True)


class RefusedError(Exception):
    """The target answered that it does not take the input."""


def introduction(_: Site) -> Target:
    """The first frame of a consensus link."""
    from protocol.codec import encode
    from protocol.errors import ProtocolError
    from protocol.records.validators import SignedNodeRecord
    from tests.support import World
    from validator_node.peers import Peers

    world = World()
    peers = Peers(world.voters, world.network_id)
    own = [encode(world.node_record(i, PEER, sequence=i + 1)) for i in range(4)]

    def run(data: bytes) -> None:
        peers.introduce(PEER, data)
        assert data in own, "a record was forged"

    return Target(run, (ProtocolError,), (*own, *examples(SignedNodeRecord)), True)


def engine(_: Site) -> Target:
    """A frame of a validator that may be malicious: decoded, and given to the engine.

    The engine is begun anew now and then, so that it does not stay where one input has put it.
    """
    from consensus.inputs import Received
    from protocol.codec import encode
    from protocol.errors import DecodeError
    from protocol.records.statement import Statement
    from tests.consensus.builders import Node, make_header
    from validator_node.outbox import Frame, decode_frame

    node = Node()
    count = 0

    def run(data: bytes) -> None:
        nonlocal node, count
        messages = decode_frame(data)
        count += 1
        if count % 200 == 0:
            node = Node()
        for message in messages:
            if not isinstance(message, Statement):
                node.step(Received(count % 4, message))

    header = make_header("a")
    peers = node.peers
    votes = [peers.vote(kind, s, header) for kind in ("prepare", "commit") for s in (0, 2, 3)]
    change = peers.view_change(1, 2, tip=None)
    frames: list[list[Any]] = [[peers.proposal("a", header), *votes], votes, [change]]
    return Target(run, (DecodeError,), (*map(encode, frames), *examples(Frame)))


def record_book(_: Site) -> Target:
    """A record of the DHT: its key, a zero byte, and the value that a peer puts or returns."""
    from protocol.codec import encode, sha256
    from protocol.identity import verify_consensus
    from tests.protocol.receipt_fixture import make_example
    from tests.support import World
    from validator_node.records.book import RecordBook, make_rules
    from validator_node.records.errors import RecordError

    example, world = make_example(), World()
    network_id = example.genesis.network_id
    rules = make_rules(
        network_id,
        voters_of=lambda epoch: example.voters if epoch == example.voters.epoch else None,
        verify=verify_consensus,
        is_known_hotkey=lambda _: True,
    )
    book = RecordBook(network_id, rules)
    blob, receipt, submission = b"a blob", example.receipt, example.submission
    network = network_id.hex()[:16]
    values = {
        f"blob/{network}/{sha256(blob).hex()}": blob,
        f"result/{network}/{submission.submission_id.hex()}": encode(receipt),
        f"submission/{network}/{submission.submission_id.hex()}": encode(example.posted.signed),
        f"checkpoint/{network}/newest": bytes(100),
        f"validators/{network}/1": bytes(100),
        f"evidence/{network}/{'00' * 32}": bytes(100),
        f"node/{network}/{'00' * 32}": encode(world.node_record(0, PEER)),
    }

    def run(data: bytes) -> None:
        key, _, value = data.partition(b"\0")
        text = key.decode(errors="replace")
        assert book.select(text, (value, b"")) in (0, 1)
        book.check(text, value)

    seeds = [b"/%s\0%s" % (key.encode(), value) for key, value in values.items()]
    return Target(run, (RecordError,), tuple(seeds), True)


def address_book(_: Site) -> Target:
    """A node record that somebody tells of."""
    from protocol.codec import encode
    from protocol.errors import ProtocolError
    from tests.support import World
    from validator_node.discovery.book import AddressBook
    from validator_node.network.addresses import dialable

    world = World()
    known = {key.public_key for key in world.hotkeys}
    book = AddressBook(world.network_id, bytes(32), is_neuron=known.__contains__, now=time.time)
    addresses = ("/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/1", "/dns4/example.org/tcp/9")

    def run(data: bytes) -> None:
        signed = book.read(data)
        dialable(signed.record.addresses, signed.record.peer_id, loopback=False)
        book.take(signed, PEER)

    seeds = [world.node_record(i, PEER, sequence=i + 1, addresses=addresses) for i in range(4)]
    return Target(run, (ProtocolError,), tuple(map(encode, seeds)), True)


def queries(site: Site) -> Target:
    """What a miner asks a node."""
    from tests.support import World
    from tests.validator_node.test_intake import Site as IntakeSite
    from validator_node.queries import QueryService
    from validator_node.store import Store

    world = World()
    store = site.stack.enter_context(
        _closing(Store.open(site.folder / "db", world.genesis, create=True))
    )
    service = QueryService(store, IntakeSite(world, store).intake)
    return Target(service.reply, (), (bytes(32), bytes(range(32)), b""))


def _closing(opened: Any) -> Any:
    from contextlib import closing

    return closing(opened)
