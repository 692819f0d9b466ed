"""Gossipsub: messages to whoever joined a topic, forwarded only after our check.

Rules: the author's signature is verified before the check, the check runs before forwarding and is
fast; a message has exactly one topic and at most `max_bytes`; what a check does not accept, or
fails on, is counted and goes no further. It ignores what honest peers send too (repeats, what came
too late or too fast) and rejects what none of them would forward: that is charged to the peer we
have it from (gossipsub 1.1, "Extended Validators"). Delivered messages wait in a bounded queue,
drops are counted. Our own messages are neither checked nor delivered to ourselves.

Protocol v1.1 with v1.0. Not v1.2: IDONTWANT costs half as much CPU again on small messages. The
library's spam protection stops forwarding above 10 messages a second from a peer: `inbound_gossip`
and `gossip_door` have our own budgets, `router` and `mesh` say who gets what.
"""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from validator_node.network.counters import attach
from validator_node.network.errors import AlreadyJoinedError, MessageTooLargeError
from validator_node.network.gossip_checks import (
    CheckAnswer,
    Glance,
    GossipMessage,
    JoinedTopic,
    TopicCheck,
)
from validator_node.network.gossip_door import FORGED_WASTE, Door
from validator_node.network.inbound_gossip import InboundGossip
from validator_node.network.limits import Gate, install
from validator_node.network.router import NodeRouter

__all__ = ["MAX_MESSAGE_BYTES", "CheckAnswer", "Gossip", "GossipMessage", "TopicCheck"]

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 262_144
MAX_RPC_BYTES: Final = 1_048_576
SEEN_S: Final = 120


class _Push:
    """A message on its way through the library."""

    def __init__(self, forwarder: Any) -> None:
        self.identity = forwarder
        self.forwarder = str(forwarder)
        self.signed = False


_push: ContextVar[_Push] = ContextVar("push")


class _NodePubsub(Pubsub):
    """The library's Pubsub with our reading and delivery, and an event for subscriptions."""

    def __init__(self, host: Any, router: Any, gate: Gate) -> None:
        super().__init__(host, router, seen_ttl=SEEN_S, max_inbound_rpc_size=MAX_RPC_BYTES)
        self.gate = gate
        self.joined: dict[str, JoinedTopic] = {}
        self.changed = trio.Event()
        self.door = Door(gate, self.joined)
        self.inbound = InboundGossip(self, gate, self.door, max_rpc_bytes=MAX_RPC_BYTES)

    def note_change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def handle_subscription(self, origin_id: Any, sub_message: Any) -> None:
        super().handle_subscription(origin_id, sub_message)
        self.note_change()

    async def _handle_new_peer(self, peer_id: Any) -> None:
        before = frozenset(self.topic_ids)
        await super()._handle_new_peer(peer_id)
        # What changed after the greeting was made and before the peer counted, nobody has told it.
        changed = before ^ frozenset(self.topic_ids)
        queue = self.peer_queues.get(peer_id)
        if changed and queue is not None:
            options = [
                rpc_pb2.RPC.SubOpts(subscribe=name in self.topic_ids, topicid=name)
                for name in sorted(changed)
            ]
            queue.push(rpc_pb2.RPC(subscriptions=options))
        self.note_change()

    async def continuously_read_stream(self, stream: Any) -> None:
        await self.inbound.read(stream)

    def is_known(self, msg: Any) -> bool:
        """Tell whether a message was seen or refused not long ago, or is being checked."""
        return self.is_known_id(self.get_message_id(msg))

    def is_known_id(self, msg_id: bytes) -> bool:
        """Tell the same of a message by its id."""
        if self.seen_messages.has(msg_id) or msg_id in self.__dict__.get("_under_validation", ()):
            return True
        # Results are kept of signed messages only, so that nobody spoils another's by a forgery.
        result = self.validation_cache.get(msg_id)
        return result is not None and not result.is_valid

    async def push_contained(self, msg_forwarder: Any, msg: Any) -> None:
        """Push a message; a fault of ours must not cost its peer the stream."""
        try:
            await self.push_msg(msg_forwarder, msg)
        except Exception:
            self.gate.counters.count("errors", "gossip_push")
            log.exception("a gossip message could not be taken")

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        known = self.is_known(msg)
        push = _Push(msg_forwarder)
        token = _push.set(push)
        try:
            await super().push_msg(msg_forwarder, msg)
        finally:
            _push.reset(token)
        if not known and not push.signed:
            self.door.refuse(push.forwarder, "gossip_signature")
            self.door.spend(push.forwarder, FORGED_WASTE)

    async def validate_msg(self, msg_forwarder: Any, msg: Any) -> None:
        _push.get().signed = True  # the library comes here only after the signature
        await super().validate_msg(msg_forwarder, msg)

    def notify_subscriptions(self, publish_message: Any) -> None:
        push, name = _push.get(), publish_message.topicIDs[0]
        peer_id, topic = push.forwarder, self.joined.get(name)
        if topic is None or push.identity == self.my_id:
            return
        self.router.note_delivery(push.identity, name)
        author = str(ID(publish_message.from_id))
        try:
            topic.channel.send_nowait(
                GossipMessage(peer_id=peer_id, author=author, data=publish_message.data)
            )
        except trio.WouldBlock:
            self.gate.counters.count("dropped", "gossip_queue")
        except trio.BrokenResourceError:
            self.gate.counters.count("dropped", "gossip_unread")


class Gossip:
    """Topics of one host; made before the host runs."""

    def __init__(self, host: Any, gate: Gate) -> None:
        self._gate = gate
        self._counters = gate.counters
        self._own_id = host.get_id()
        self._router = NodeRouter(gate)
        self._router.mcache.limit_bytes = gate.limits.gossip_cache_bytes
        self._pubsub = _NodePubsub(host, self._router, gate)
        install(self._pubsub, gate)
        for owner in (self._router, self._router.mcache, self._pubsub):
            attach(owner, gate.counters)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run the gossip services until the block ends."""
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            yield

    async def join(
        self,
        topic: str,
        check: TopicCheck,
        *,
        capacity: int,
        max_bytes: int,
        glance: Glance | None = None,
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Receive and forward a topic; see `Network.join`."""
        if topic in self._pubsub.joined:
            raise AlreadyJoinedError(f"topic {topic!r} is joined already")
        waits = inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004  # an object with an async __call__
        )
        send, receive = trio.open_memory_channel[GossipMessage](capacity)
        self._pubsub.joined[topic] = JoinedTopic(
            channel=send, max_bytes=max_bytes, glance=glance, checks_at_once=not waits
        )
        validator: Any = self._async_validator if waits else self._sync_validator
        self._pubsub.set_topic_validator(topic, validator(check), waits)
        await self._pubsub.subscribe(topic)
        return receive

    async def leave(self, topic: str) -> None:
        """Stop receiving and forwarding a topic; its channel ends."""
        joined = self._pubsub.joined.pop(topic, None)
        if joined is not None:
            await self._pubsub.unsubscribe(topic)
            self._pubsub.remove_topic_validator(topic)
            joined.channel.close()

    def _verdict(self, forwarder: Any, answer: Any) -> bool:
        if answer is True or answer is CheckAnswer.ACCEPT:
            self._gate.places.note_use(str(forwarder))
            return True
        found = answer if isinstance(answer, CheckAnswer) else CheckAnswer.IGNORE
        self._pubsub.door.note(str(forwarder), found)
        return False

    def _failed(self, msg: Any) -> bool:
        self._counters.count("errors", "gossip_check")
        log.exception("the check of topic %s failed", msg.topicIDs[0])
        return False

    def _sync_validator(self, check: Any) -> Callable[[Any, Any], bool]:
        def validate(forwarder: Any, msg: Any) -> bool:
            if forwarder == self._own_id:
                return True
            try:
                return self._verdict(forwarder, check(str(forwarder), msg.data))
            except Exception:  # a bug of ours; the peer has no part in it
                return self._failed(msg)

        return validate

    def _async_validator(self, check: Any) -> Callable[[Any, Any], Awaitable[bool]]:
        async def validate(forwarder: Any, msg: Any) -> bool:
            if forwarder == self._own_id:
                return True
            try:
                return self._verdict(forwarder, await check(str(forwarder), msg.data))
            except Exception:  # a bug of ours; the peer has no part in it
                return self._failed(msg)

        return validate

    async def publish(self, topic: str, data: bytes) -> None:
        """Publish on a topic, joined or not; see `Network.publish`."""
        joined = self._pubsub.joined.get(topic)
        limit = joined.max_bytes if joined else MAX_MESSAGE_BYTES
        if len(data) > limit:
            raise MessageTooLargeError(
                f"{len(data)} bytes for topic {topic!r}: at most {limit}; send larger payloads by "
                "hash over a stream"
            )
        await self._pubsub.publish(topic, data)

    def subscribers(self, topic: str) -> frozenset[str]:
        """Return the connected peers that joined the topic and that we can write to."""
        peers = self._pubsub.peer_topics.get(topic, ())
        return frozenset(str(peer) for peer in peers if peer in self._pubsub.peers)

    async def wait_subscriber(self, topic: str, count: int) -> None:
        """Wait until at least `count` connected peers have joined the topic."""
        while len(self.subscribers(topic)) < count:
            await self._pubsub.changed.wait()
