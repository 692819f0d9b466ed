"""Gossipsub: messages to whoever joined a topic, forwarded only after our check.

Rules: the author's signature is verified before the check, the check runs before forwarding and is
fast; a message has exactly one topic and at most `max_bytes`; what a check refuses, or fails on, is
counted and goes no further. Delivered messages wait in a bounded queue, drops are counted. Our own
messages are neither checked nor delivered to ourselves.

Protocol v1.1 with v1.0, degree 6 (4 to 8), heartbeat 1 s. Not v1.2: IDONTWANT costs half as much
CPU again on small messages. The library's spam protection stops forwarding above 10 messages a
second from a peer: budgets belong into the check.
"""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from validator_node.network.counters import Counters, attach
from validator_node.network.errors import AlreadyJoinedError, MessageTooLargeError

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 262_144
MAX_RPC_BYTES: Final = 1_048_576
SEEN_S: Final = 120

TopicCheck = Callable[[str, bytes], bool] | Callable[[str, bytes], Awaitable[bool]]
"""`check(forwarder's peer id, data) -> forward it?`; a coroutine function has 5 s."""

_forwarder: ContextVar[str] = ContextVar("forwarder")


@dataclass(frozen=True, kw_only=True, slots=True)
class GossipMessage:
    """A message that passed its topic's check.

    Attributes:
        peer_id: the peer we have it from, who answers for forwarding it.
        author: the peer that published and signed it.
        data: the payload.
    """

    peer_id: str
    author: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Topic:
    channel: trio.MemorySendChannel[GossipMessage]
    max_bytes: int


class _NodePubsub(Pubsub):
    """The library's Pubsub with our delivery and an event for changed subscriptions."""

    def __init__(self, host: Any, router: Any, counters: Counters) -> None:
        super().__init__(host, router, seen_ttl=SEEN_S, max_inbound_rpc_size=MAX_RPC_BYTES)
        self.counters = counters
        self.joined: dict[str, _Topic] = {}
        self.changed = trio.Event()

    def note_change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def handle_subscription(self, origin_id: Any, sub_message: Any) -> None:
        super().handle_subscription(origin_id, sub_message)
        self.note_change()

    async def _handle_new_peer(self, peer_id: Any) -> None:
        await super()._handle_new_peer(peer_id)
        self.note_change()

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        token = _forwarder.set(str(msg_forwarder))
        try:
            await super().push_msg(msg_forwarder, msg)
        finally:
            _forwarder.reset(token)

    def notify_subscriptions(self, publish_message: Any) -> None:
        peer_id = _forwarder.get()
        topic = self.joined.get(publish_message.topicIDs[0])
        if topic is None or peer_id == str(self.my_id):
            return
        author = str(ID(publish_message.from_id))
        try:
            topic.channel.send_nowait(
                GossipMessage(peer_id=peer_id, author=author, data=publish_message.data)
            )
        except trio.WouldBlock:
            self.counters.count("dropped", "gossip_queue")
        except trio.BrokenResourceError:
            self.counters.count("dropped", "gossip_unread")


class Gossip:
    """Topics of one host; made before the host runs."""

    def __init__(self, host: Any, counters: Counters) -> None:
        self._counters = counters
        self._own_id = host.get_id()
        self._router = GossipSub(
            [PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=6,
            degree_low=4,
            degree_high=8,
            heartbeat_interval=1,
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._pubsub = _NodePubsub(host, self._router, counters)
        attach(self._router, counters)
        attach(self._pubsub, counters)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run the gossip services until the block ends."""
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            yield

    async def join(
        self, topic: str, check: TopicCheck, *, capacity: int, max_bytes: int
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Receive and forward a topic; see `Network.join`."""
        if topic in self._pubsub.joined:
            raise AlreadyJoinedError(f"topic {topic!r} is joined already")
        send, receive = trio.open_memory_channel[GossipMessage](capacity)
        self._pubsub.joined[topic] = _Topic(channel=send, max_bytes=max_bytes)
        if inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004  # an object with an async __call__
        ):
            self._pubsub.set_topic_validator(topic, self._async_validator(check, max_bytes), True)
        else:
            self._pubsub.set_topic_validator(topic, self._sync_validator(check, max_bytes), False)
        await self._pubsub.subscribe(topic)
        return receive

    async def leave(self, topic: str) -> None:
        """Stop receiving and forwarding a topic; its channel ends."""
        joined = self._pubsub.joined.pop(topic, None)
        if joined is not None:
            await self._pubsub.unsubscribe(topic)
            self._pubsub.remove_topic_validator(topic)
            joined.channel.close()

    def _admissible(self, msg: Any, max_bytes: int) -> bool:
        if len(msg.topicIDs) != 1:
            self._counters.count("refused", "gossip_topics")
            return False
        if len(msg.data) > max_bytes:
            self._counters.count("refused", "gossip_too_large")
            return False
        return True

    def _verdict(self, admitted: Any) -> bool:
        if admitted is True:
            return True
        self._counters.count("refused", "gossip_check")
        return False

    def _sync_validator(self, check: Any, max_bytes: int) -> Callable[[Any, Any], bool]:
        def validate(forwarder: Any, msg: Any) -> bool:
            if forwarder == self._own_id:
                return True
            if not self._admissible(msg, max_bytes):
                return False
            try:
                return self._verdict(check(str(forwarder), msg.data))
            except Exception:
                self._counters.count("errors", "gossip_check")
                log.exception("the check of topic %s failed", msg.topicIDs[0])
                return False

        return validate

    def _async_validator(self, check: Any, max_bytes: int) -> Callable[[Any, Any], Awaitable[bool]]:
        async def validate(forwarder: Any, msg: Any) -> bool:
            if forwarder == self._own_id:
                return True
            if not self._admissible(msg, max_bytes):
                return False
            try:
                return self._verdict(await check(str(forwarder), msg.data))
            except Exception:
                self._counters.count("errors", "gossip_check")
                log.exception("the check of topic %s failed", msg.topicIDs[0])
                return False

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
