"""The gossip router: the library's GossipSub with a mesh that strangers cannot fill.

What the library does otherwise, and why that is not enough (0.8.1):
- A peer in prune back-off gets no IHAVE, and of the others six a heartbeat do: of 28 subscribers of
  one node 20 received nothing. Here every subscriber outside the mesh, or new in it, is told of
  every message twice, the longest untold first, `LAZY` of them a heartbeat.
- Any GRAFT is taken, and the mesh grows by two random peers each heartbeat until a random part of
  it is pruned, members and peers that deliver among them: 30 silent strangers kept all honest peers
  out. Here `mesh` decides; a peer score that is all zeros is not kept.
- A heartbeat's PRUNE names no back-off and sets none, so that whoever is pruned may come back at
  once; and its control messages carry what was meant for the peers before. Here each peer gets its
  own, we keep to the back-off that we name, and a GRAFT within it is charged.
- Our own messages go to the mesh or to six random subscribers. Here they go to the reserved ones
  and to up to `OWN_COPIES` others, for a miner's six may all be silent.
- Subscribing anew gets every recent message again; see `gossip_control`.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import env_to_send_in_RPC
from libp2p.pubsub.utils import safe_bytes_from_hex

from validator_node.network.gossip_control import MAX_ID_BYTES, MAX_IDS, Control
from validator_node.network.limits import Gate
from validator_node.network.mesh import DEGREE, HIGH, LOW, RESERVED, TopicMesh

HEARTBEAT_S: Final = 1
LAZY: Final = 64
"""Subscribers outside the mesh that are told of new messages in one heartbeat, a topic."""
OWN_COPIES: Final = 32
PRUNED_S: Final = 60
FULL_S: Final = 10
"""Back-off of a peer whose GRAFT found no place: it may turn out to be good for something."""
IN_FLIGHT_S: Final = 2.0
"""A GRAFT may have crossed our PRUNE."""
MAX_IMPOSED: Final = 4_096


class NodeRouter(GossipSub):
    """Routes gossip; `gate` tells who is who."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(
            [PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=DEGREE,
            degree_low=LOW,
            degree_high=HIGH,
            heartbeat_interval=HEARTBEAT_S,
            prune_back_off=PRUNED_S,
            unsubscribe_back_off=FULL_S,
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.scorer = None
        self.gate = gate
        self.control = Control(self, gate)
        self._beat = 0
        self._names: dict[Any, str] = {}
        self._reserved: frozenset[str] = gate.standings.reserved()
        gate.standings.on_change(self._learn_standings)
        self._meshes: dict[str, TopicMesh[Any]] = {}
        self._told: dict[str, dict[Any, int]] = {}
        self._fresh: dict[Any, int] = {}
        """Who came, or came into a mesh, and at which heartbeat: it may have missed something."""
        self._imposed: dict[tuple[str, Any], tuple[float, float]] = {}

    # Who is who

    def _learn_standings(self) -> None:
        self._reserved = self.gate.standings.reserved()

    def add_peer(self, peer_id: Any, protocol_id: Any) -> None:
        """Take a peer in that we can write to."""
        super().add_peer(peer_id, protocol_id)
        self._names[peer_id] = str(peer_id)
        self._fresh[peer_id] = self._beat

    def remove_peer(self, peer_id: Any) -> None:
        """Forget a peer that is gone; a back-off that we imposed on it stays."""
        super().remove_peer(peer_id)
        self._names.pop(peer_id, None)
        self._fresh.pop(peer_id, None)
        for mesh in self._meshes.values():
            mesh.forget(peer_id)
        for told in self._told.values():
            told.pop(peer_id, None)

    def is_reserved(self, peer_id: Any) -> bool:
        """Return whether a peer is a member or configured."""
        name = self._names.get(peer_id)
        return (str(peer_id) if name is None else name) in self._reserved

    def note_delivery(self, peer_id: Any, topic: str) -> None:
        """Note that a peer was the first to deliver a message that was accepted."""
        if topic in self.mesh:
            self._mesh(topic).on_delivery(peer_id)

    def _mesh(self, topic: str) -> TopicMesh[Any]:
        found = self._meshes.get(topic)
        if found is None or found.peers is not self.mesh[topic]:
            found = self._meshes[topic] = TopicMesh(self.mesh[topic], self.is_reserved)
        return found

    def _subscribed(self, topic: str) -> list[Any]:
        """Return the subscribers of a topic that we can write to."""
        return [peer for peer in self._all_subscribed(topic) if self._is_writable(peer)]

    def _all_subscribed(self, topic: str) -> Any:
        """Return also those that have just come, to which our stream is not open yet."""
        pubsub: Any = self.pubsub
        return pubsub.peer_topics.get(topic, ())

    def _is_writable(self, peer: Any) -> bool:
        pubsub: Any = self.pubsub
        return peer in pubsub.peers and self.peer_protocol.get(peer) in self.protocols

    # The mesh

    async def join(self, topic: str) -> None:
        """Begin a topic's mesh with whoever is there."""
        if topic in self.mesh:
            return
        self.mesh[topic] = set()
        self.fanout.pop(topic, None)
        self.time_since_last_publish.pop(topic, None)
        for peer in self._plan(topic)[0]:
            await self.emit_graft(topic, peer)

    async def leave(self, topic: str) -> None:
        """End a topic's mesh."""
        await super().leave(topic)
        self._meshes.pop(topic, None)
        self._told.pop(topic, None)

    async def on_peer_subscribed(self, peer_id: Any, topic: str) -> None:
        """Graft a new subscriber where there is need of one."""
        if topic not in self.mesh or not self._is_writable(peer_id):
            return
        wanted = peer_id not in self.mesh[topic] and self._mesh(topic).wants(peer_id)
        if wanted and not self._check_back_off(peer_id, topic):
            self._enter(topic, peer_id)
            await self.emit_graft(topic, peer_id)

    def mesh_heartbeat(self) -> Any:
        """Bring every mesh to what `mesh` plans; return whom to graft and prune, and where."""
        self._beat += 1
        self.control.on_beat()
        now = self.gate.scores.now()
        self._imposed = {key: held for key, held in self._imposed.items() if held[1] > now}
        grafts: defaultdict[Any, list[str]] = defaultdict(list)
        prunes: defaultdict[Any, list[str]] = defaultdict(list)
        for topic in self.mesh:
            grafted, pruned = self._plan(topic)
            for peer in grafted:
                grafts[peer].append(topic)
            for peer in pruned:
                prunes[peer].append(topic)
        return grafts, prunes

    def _plan(self, topic: str) -> tuple[list[Any], list[Any]]:
        plan = self._mesh(topic).plan(
            self._all_subscribed(topic),
            lambda peer: self._is_writable(peer) and not self._check_back_off(peer, topic),
        )
        for peer in plan.prune:
            self.mesh[topic].discard(peer)
            self._impose(topic, peer, PRUNED_S)
        for peer in plan.graft:
            self._enter(topic, peer)
        return plan.graft, plan.prune

    def _enter(self, topic: str, peer: Any) -> None:
        self.mesh[topic].add(peer)
        self._fresh[peer] = self._beat
        self._notify_mesh_peer_added(peer, topic)

    def _impose(self, topic: str, peer: Any, seconds: int) -> None:
        """Keep a peer out of a mesh for a while; both sides keep to it."""
        self._add_back_off(peer, topic, False, seconds)
        now = self.gate.scores.now()
        # The other side counts in whole seconds, and may be done a little earlier.
        self._imposed[topic, peer] = now, now + seconds - IN_FLIGHT_S
        if len(self._imposed) > MAX_IMPOSED:
            self._imposed.pop(next(iter(self._imposed)))

    async def handle_graft(self, graft_msg: Any, sender_peer_id: Any) -> None:
        """Take a peer into a mesh, or say for how long it is not wanted there."""
        topic = graft_msg.topicID
        if topic not in self.mesh:
            self.gate.scores.charge(str(sender_peer_id), "gossip_unknown_topic")
            await self._send_prune(sender_peer_id, topic, FULL_S)
        elif sender_peer_id in self.mesh[topic]:
            return
        elif self.is_reserved(sender_peer_id) and self._mesh(topic).takes(sender_peer_id):
            self.back_off.get(topic, {}).pop(sender_peer_id, None)
            self._enter(topic, sender_peer_id)
        elif (topic, sender_peer_id) in self._imposed:
            await self._refuse_early(topic, sender_peer_id)
        elif self._finds_place(topic, sender_peer_id):
            self._enter(topic, sender_peer_id)
        else:
            self._impose(topic, sender_peer_id, FULL_S)
            await self._send_prune(sender_peer_id, topic, FULL_S)

    def _finds_place(self, topic: str, peer: Any) -> bool:
        return peer in self._all_subscribed(topic) and self._mesh(topic).takes(peer)

    async def _refuse_early(self, topic: str, peer: Any) -> None:
        """Answer a GRAFT within the back-off that we imposed: begin it anew, and charge for it."""
        began, _ = self._imposed[topic, peer]
        if self.gate.scores.now() - began < IN_FLIGHT_S:
            return
        self.gate.counters.count("refused", "gossip_graft")
        self.gate.scores.charge(str(peer), "gossip_graft")
        self._impose(topic, peer, PRUNED_S)
        await self._send_prune(peer, topic, PRUNED_S)

    async def _send_prune(self, peer: Any, topic: str, seconds: int) -> None:
        prune = rpc_pb2.ControlPrune(topicID=topic, backoff=seconds)
        await self.emit_control_message(rpc_pb2.ControlMessage(prune=[prune]), peer)

    async def _emit_control_msgs(
        self, peers_to_graft: Any, peers_to_prune: Any, peers_to_gossip: Any
    ) -> None:
        for peer in {**peers_to_graft, **peers_to_prune, **peers_to_gossip}:
            told = peers_to_gossip.get(peer, {})
            message = rpc_pb2.ControlMessage(
                graft=[rpc_pb2.ControlGraft(topicID=t) for t in peers_to_graft.get(peer, ())],
                prune=[
                    rpc_pb2.ControlPrune(topicID=t, backoff=PRUNED_S)
                    for t in peers_to_prune.get(peer, ())
                ],
                ihave=[rpc_pb2.ControlIHave(topicID=t, messageIDs=told[t]) for t in told],
            )
            await self.emit_control_message(message, peer)

    # Telling of messages, and sending them

    def gossip_heartbeat(self) -> Any:
        """Return the message ids that each subscriber outside a mesh is told of, by topic."""
        found: defaultdict[Any, dict[str, list[bytes]]] = defaultdict(dict)
        self._fresh = {p: beat for p, beat in self._fresh.items() if self._beat - beat <= 1}
        for topic in {**self.mesh, **self.fanout}:
            recent = self._recent(topic)
            pushed = self.mesh.get(topic, self.fanout.get(topic, ()))
            told = self._told.setdefault(topic, {})
            missing = [p for p in self._subscribed(topic) if p not in pushed or p in self._fresh]
            missing.sort(key=lambda peer: (told.get(peer, 0), not self.is_reserved(peer)))
            for peer in missing[:LAZY]:
                beats = self._beat - told.get(peer, 0) + 1  # one twice: the first may be lost
                told[peer] = self._beat
                ids = list(chain.from_iterable(recent[:beats]))[:MAX_IDS]
                if ids:
                    found[peer][topic] = ids
        for topic in [topic for topic in self._told if topic not in self.mesh]:
            if topic not in self.fanout:
                del self._told[topic]
        return found

    def _recent(self, topic: str) -> list[list[bytes]]:
        """Return the ids of a topic's messages by heartbeat, the newest first."""
        window = self.mcache.history[: self.mcache.window_size]
        return [[entry.mid for entry in beat if topic in entry.topics] for beat in window]

    async def handle_ihave(self, ihave_msg: Any, sender_peer_id: Any) -> None:
        """Ask for what we have not seen."""
        pubsub: Any = self.pubsub
        ids = [safe_bytes_from_hex(wire) for wire in ihave_msg.messageIDs]
        news = [
            found
            for found in ids
            if found and len(found) <= MAX_ID_BYTES and not pubsub.is_known_id(found)
        ]
        if wanted := self.control.promises.ask(str(sender_peer_id), news):
            await self.emit_iwant(wanted, sender_peer_id)

    async def send_recent_messages(self, peer_id: Any, topic: str) -> None:
        """Send a new subscriber what it may just have missed, within its budget."""
        pubsub: Any = self.pubsub
        name = str(peer_id)
        messages = []
        for message_id in chain.from_iterable(self._recent(topic)):
            message = self.mcache.get(message_id)
            if message is not None and self.control.resent.grant(
                name, message_id, message.ByteSize()
            ):
                messages.append(message)
        if messages and peer_id in pubsub.peers:
            record, _ = env_to_send_in_RPC(pubsub.host)
            self.send_rpc(peer_id, rpc_pb2.RPC(publish=messages, senderRecord=record))

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: Any, origin: Any, msg_id: Any = None
    ) -> Iterable[Any]:
        topics = list(topic_ids)
        peers = set(super()._get_peers_to_send(topics, msg_forwarder, origin, msg_id))
        pubsub: Any = self.pubsub
        own = msg_forwarder == pubsub.my_id
        for topic in topics:
            others = [p for p in self._subscribed(topic) if p not in peers]
            reserved = [p for p in others if self.is_reserved(p)]
            already = sum(map(self.is_reserved, peers))
            peers.update(reserved[: max(0, RESERVED - already)])
            if own:
                others = [p for p in others if p not in peers]
                peers.update(random.sample(others, min(OWN_COPIES, len(others))))
        return peers - {msg_forwarder, origin}
