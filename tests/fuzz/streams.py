"""Targets that are stream handlers: what a stranger may send on each protocol of a node."""

from __future__ import annotations

import time
from typing import Any

from tests.fuzz.shapes import examples
from tests.fuzz.target import Maker, Site, Target
from tests.fuzz.victim import Victim

TOPIC = "/fuzz/1/submissions"


def framed(*frames: bytes) -> bytes:
    """Frames of a stream: a length of 4 bytes, then so many bytes."""
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def requests(protocol: str, *seeds: bytes, kind: Any = None) -> Maker:
    """A request protocol, whose request is one of `seeds` or a record of `kind`."""

    def make(site: Site) -> Target:
        victim = _victim(site)
        made = (*seeds, *(examples(kind()) if kind else ()))
        return Target(lambda data: victim.feed(protocol, data), (), tuple(map(framed, made)))

    return make


def links(site: Site) -> Target:
    """A consensus link: an introduction, then frames."""
    from protocol.codec import encode
    from tests.support import World
    from validator_node.links import CONSENSUS_PROTOCOL
    from validator_node.outbox import Frame

    victim = _victim(site)
    hello = encode(World().node_record(0, "peer"))
    seeds = [framed(hello, frame) for frame in examples(Frame)]
    return Target(lambda data: victim.feed(CONSENSUS_PROTOCOL, data), (), tuple(seeds))


def gossip(site: Site) -> Target:
    """A gossip stream: RPCs with messages, subscriptions and control entries."""
    from google.protobuf.message import DecodeError
    from libp2p.exceptions import ParseError
    from libp2p.utils.varint import encode_varint_prefixed

    victim = _victim(site)
    seeds = tuple(encode_varint_prefixed(rpc) for rpc in _rpcs())
    # Both are contained by the network, which resets the stream and has charged the peer.
    errors = (DecodeError, ParseError)
    return Target(lambda data: victim.feed("/meshsub/1.1.0", data), errors, seeds)


def kademlia(site: Site) -> Target:
    """A stream of the DHT: questions, records put, providers announced."""
    from google.protobuf.message import DecodeError
    from libp2p.kad_dht.pb.kademlia_pb2 import Message
    from libp2p.utils.varint import encode_varint_prefixed

    from tests.support import World
    from tests.validator_node.dht_support import Records

    victim = _victim(site)
    records = Records(World())
    held = (records.blob(), records.checkpoint(16), records.submission(), records.evidence())
    kinds = ("GET_VALUE", "GET_PROVIDERS", "FIND_NODE", "PING")
    messages = [Message(type=kind, key=b"/blob/0/0") for kind in kinds]
    for key, value in held:
        put = Message(type=Message.PUT_VALUE, key=key.encode())
        put.record.key, put.record.value = key.encode(), value
        messages += [put, Message(type=Message.GET_VALUE, key=key.encode())]
    peer = Message.Peer(id=b"\x12\x20" + bytes(32), addrs=[b"\x04\x7f\0\0\1\x06\x0f\xa1"])
    messages.append(
        Message(type=Message.ADD_PROVIDER, key=b"\x12\x20" + bytes(32), providerPeers=[peer])
    )
    seeds = [encode_varint_prefixed(message.SerializeToString()) for message in messages]
    # Contained by the network, which resets the stream.
    return Target(lambda data: victim.feed("/ipfs/kad/1.0.0", data), (DecodeError,), tuple(seeds))


def library(protocol: str, *seeds: bytes) -> Maker:
    """A protocol of the library; what its handler raises is contained, and resets the stream."""

    def make(site: Site) -> Target:
        victim = _victim(site)
        return Target(lambda data: victim.feed(protocol, data), (Exception,), seeds)

    return make


def _rpcs() -> list[bytes]:
    from libp2p.pubsub.pb import rpc_pb2

    message = rpc_pb2.Message(
        data=b"data", topicIDs=[TOPIC], from_id=b"\x12\x20" + bytes(32), seqno=bytes(8)
    )
    message.key, message.signature = b"\x08\x01\x12\x20" + bytes(32), bytes(64)
    control = rpc_pb2.ControlMessage(
        ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"one"])],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"one", b"two"])],
        graft=[rpc_pb2.ControlGraft(topicID=TOPIC)],
        prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=60)],
        idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[b"one"])],
    )
    subscription = rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)
    rpcs = [
        rpc_pb2.RPC(publish=[message, message]),
        rpc_pb2.RPC(publish=[_signed_message()]),
        rpc_pb2.RPC(subscriptions=[subscription]),
        rpc_pb2.RPC(control=control),
        rpc_pb2.RPC(publish=[message], subscriptions=[subscription], control=control),
        rpc_pb2.RPC(senderRecord=bytes(80)),
    ]
    return [rpc.SerializeToString() for rpc in rpcs]


def _signed_message() -> Any:
    """A message whose author's signature holds, so that it gets as far as the topic's check."""
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID
    from libp2p.pubsub.pb import rpc_pb2
    from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

    author = create_new_key_pair(bytes(32))
    message = rpc_pb2.Message(data=examples_of_submissions()[-1], topicIDs=[TOPIC], seqno=bytes(8))
    message.from_id = ID.from_pubkey(author.public_key).to_bytes()
    signed = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
    message.key = author.public_key.serialize()
    message.signature = author.private_key.sign(signed)
    return message


def examples_of_submissions() -> tuple[bytes, ...]:
    """Messages of the submissions topic, valid by their form."""
    from protocol.records.submission import SubmissionMessage

    return examples(SubmissionMessage)


def _victim(site: Site) -> Victim:
    """A node with every service that strangers can reach, over a store that holds little."""
    from contextlib import closing

    from tests.support import World
    from tests.validator_node.test_intake import Site as IntakeSite
    from validator_node.store import Store

    world = World()
    store = site.stack.enter_context(
        closing(Store.open(site.folder / "db", world.genesis, create=True))
    )
    for _ in range(3):
        world.decide(store)
    place = IntakeSite(world, store, rate=1e9)
    place.clock = time.monotonic

    async def services(network: Any, nursery: Any) -> None:
        from validator_node.links import CONSENSUS_PROTOCOL
        from validator_node.owner.pool import RegistryPool
        from validator_node.owner.queries import RegistryQueries
        from validator_node.peers import Peers
        from validator_node.queries import QueryService
        from validator_node.sync.serving import SyncServer

        QueryService(store, place.intake).serve(network)
        RegistryQueries(store, RegistryPool(store)).serve(network)
        SyncServer(store).serve(network)
        _serve_blobs(network, store)
        peers = Peers(world.voters, world.network_id)
        _link(network, CONSENSUS_PROTOCOL, peers)
        nursery.start_soon(_discovery(network, world).run)
        topic = place.topic
        await network.join(TOPIC, lambda peer, data: place.intake.check(topic, data, peer))

    return site.stack.enter_context(Victim(services, _dht(site, world)))


def _dht(site: Site, world: Any) -> Any:
    from storage.database import Database
    from storage.record_store import RecordStore
    from tests.validator_node.dht_support import Records
    from validator_node.network.dht_records import DhtConfig
    from validator_node.records.limits import RECORD_LIMITS

    database = site.stack.enter_context(Database.open(site.folder / "records", create=True))
    kept = RecordStore(database, RECORD_LIMITS, lambda: time.time_ns() // 1_000_000)
    return DhtConfig(judge=Records(world).book(), kept=kept)


class _Unsaved:
    """An address book that is not kept."""

    def load(self) -> None:
        return None

    def save(self, data: bytes) -> None:
        assert len(data) < 8 * 1024 * 1024


def _discovery(network: Any, world: Any) -> Any:
    from validator_node.discovery.book import AddressBook
    from validator_node.discovery.service import Discovery, DiscoveryConfig

    own = world.hotkeys[0].public_key
    book = AddressBook(world.network_id, own, is_neuron=lambda _: True, now=time.time)

    def sign(addresses: tuple[str, ...], sequence: int) -> Any:
        return world.node_record(0, network.peer_id, sequence=sequence, addresses=addresses)

    config = DiscoveryConfig(
        network_id=world.network_id, listen_host="127.0.0.1", peer_exchange=False
    )
    return Discovery(network, book, world.voters, sign, config, _Unsaved())


def _serve_blobs(network: Any, store: Any) -> None:
    from validator_node.blobs import BLOB_PROTOCOL, BlobService

    if BLOB_PROTOCOL not in {str(name) for name in network._host.multiselect.handlers}:
        BlobService([store.body]).serve(network)


def _link(network: Any, protocol: str, peers: Any) -> None:
    """Let peers introduce themselves, as `ConsensusLinks` does, and admit them whatever they say.

    So frames are reached without a signature for the peer of each input.
    """
    from protocol.errors import ProtocolError
    from validator_node.outbox import decode_frame

    async def on_hello(peer_id: str, data: bytes) -> bool:
        try:
            peers.introduce(peer_id, data)
        except ProtocolError:
            return len(data) > 0
        return True

    def on_frame(peer_id: str, frame: bytes) -> None:
        try:
            decode_frame(frame)
        except ProtocolError:
            return

    network.open_links(protocol, on_frame=on_frame, hello=lambda: b"", on_hello=on_hello)
