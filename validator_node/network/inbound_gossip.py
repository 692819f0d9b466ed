"""Reading gossip RPCs, within the budgets of the peer that sends them.

Rules: a peer has two inbound gossip streams at most, of a third the oldest is reset (after a lost
connection the new one may come before the old one's end); what it sends faster than `Limits` allow
is read more slowly, which holds its writer back and loses nothing, and so is everybody while this
process is late (`pressure`); what `gossip_door` turns away is dropped unchecked; at most
`IN_CHECK_PER_STREAM` of its messages are being checked at a time. Control messages are cut down to
what an honest router sends before the library sees them: it keeps a back-off for any topic that a
PRUNE names, dials any peer named there, and answers one IWANT with every message it asks for, as
often as it asks.
"""

from typing import Any, Final

import libp2p.pubsub.pubsub as pubsub_module
import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.pubsub.pb import rpc_pb2

from validator_node.network.gossip_door import Door
from validator_node.network.limits import Gate, frames_of
from validator_node.network.upstream.varint_reads import SlowRpcError

STREAMS_PER_PEER: Final = 2
IN_CHECK_PER_STREAM: Final = 32
MAX_ENTRIES: Final = 5_000
PAUSE_S: Final = 5.0
MAX_SLOWED_S: Final = 10.0
MAX_USELESS_PER_RPC: Final = 32
MESSAGES_A_TURN: Final = 8
"""Messages judged before other tasks get their turn."""
RESERVED_PART: Final = 4
"""One of so many places in validation is for members and configured peers alone."""


class _Reading:
    """One inbound gossip stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.identity = stream.muxed_conn.peer_id
        self.peer_id = str(self.identity)
        self.in_check = trio.Semaphore(IN_CHECK_PER_STREAM)
        self.scope = trio.CancelScope()


class InboundGossip:
    """Reads the gossip streams of every peer on behalf of one Pubsub."""

    def __init__(self, pubsub: Any, gate: Gate, door: Door, *, max_rpc_bytes: int) -> None:
        self._pubsub = pubsub
        self._gate = gate
        self._door = door
        self._max_rpc_bytes = max_rpc_bytes
        in_check = gate.limits.gossip_in_check
        self._in_check = trio.Semaphore(in_check)
        self._in_check_unreserved = trio.Semaphore(in_check - in_check // RESERVED_PART)
        self._streams: dict[str, list[_Reading]] = {}

    async def read(self, stream: Any) -> None:
        """Read one inbound stream until it ends; errors of its peer are charged."""
        reading = _Reading(stream)
        streams = self._streams.setdefault(reading.peer_id, [])
        if len(streams) >= STREAMS_PER_PEER:
            self._gate.counters.count("reset", "gossip_streams")
            streams.pop(0).scope.cancel()
        streams.append(reading)
        frames = frames_of(stream.muxed_conn)
        frames[id(stream)] = stream.__dict__.setdefault("_read_ahead", bytearray())
        try:
            with reading.scope:
                await self._read_all(reading)
            if reading.scope.cancelled_caught:
                await stream.reset()
        finally:
            frames.pop(id(stream), None)
            if reading in streams:
                streams.remove(reading)
            if not streams and self._streams.get(reading.peer_id) is streams:
                del self._streams[reading.peer_id]

    async def _read_all(self, reading: _Reading) -> None:
        try:
            while self._pubsub.manager.is_running:
                await self._read_one(reading)
        except MessageTooLarge:
            await self._cut(reading, "gossip_too_large")
        except SlowRpcError:
            await self._cut(reading, "slow_frame")
        except (ParseError, DecodeError):
            self._gate.scores.charge(reading.peer_id, "gossip_malformed")
            raise
        except IOException:  # the stream or its connection ended
            return

    async def _cut(self, reading: _Reading, reason: str) -> None:
        self._gate.counters.count("reset", reason)
        self._gate.scores.charge(reading.peer_id, reason)
        await reading.stream.reset()
        self._pubsub._handle_dead_peer(reading.identity)

    async def _read_one(self, reading: _Reading) -> None:
        # Looked up at each call: a correction replaces it.
        read: Any = pubsub_module.read_varint_prefixed_bytes_limited
        data: bytes = await read(reading.stream, self._max_rpc_bytes)
        rpc: Any = rpc_pb2.RPC()
        rpc.ParseFromString(data)
        entries = self._entries(rpc)
        if not pubsub_module.maybe_consume_signed_record(rpc, self._pubsub.host, reading.identity):
            self._refuse(reading, "gossip_malformed")
        elif entries > MAX_ENTRIES:
            self._refuse(reading, "gossip_overflow")
        else:
            await self._take(reading, rpc)
        holds_messages = len(rpc.publish) > 0
        del rpc
        if holds_messages:
            await self._gate.pressure.ease()
        await self._pace(reading, len(data), entries)

    def _refuse(self, reading: _Reading, reason: str) -> None:
        self._gate.counters.count("refused", reason)
        self._gate.scores.charge(reading.peer_id, reason)

    def _entries(self, rpc: Any) -> int:
        control = rpc.control
        lists = (control.ihave, control.iwant, control.graft, control.prune, control.idontwant)
        return len(rpc.publish) + len(rpc.subscriptions) + sum(map(len, lists))

    async def _pace(self, reading: _Reading, size: int, entries: int) -> None:
        """Let a peer that is too fast wait; a burst costs it time, a flood its score."""
        budget = self._door.budget(reading.peer_id)
        owed = max(budget.bytes.owe(size), budget.entries.owe(1 + entries))
        while owed > 0:
            pause = min(owed, PAUSE_S)
            self._gate.counters.count("refused", "gossip_throttled")
            self._gate.scores.charge(reading.peer_id, "gossip_throttled", 5.0 * pause)
            await trio.sleep(pause)
            owed -= pause
        useless = self._door.owed_s(reading.peer_id)
        if useless > 0:
            self._gate.counters.count("refused", "gossip_slowed")
            await trio.sleep(min(useless, MAX_SLOWED_S))

    async def _take(self, reading: _Reading, rpc: Any) -> None:
        useless = 0
        for number, message in enumerate(rpc.publish):
            if useless >= MAX_USELESS_PER_RPC:
                left = len(rpc.publish) - number
                self._gate.counters.count("refused", "gossip_unread", left)
                break
            useless += not await self._take_message(reading, message)
            if number % MESSAGES_A_TURN == MESSAGES_A_TURN - 1:
                await trio.lowlevel.checkpoint()
        for subscription in rpc.subscriptions:
            self._pubsub.handle_subscription(reading.identity, subscription)
        if rpc.HasField("control"):
            self._pubsub.router.control.cut_down(reading.peer_id, rpc.control)
            await self._pubsub.router.handle_rpc(rpc, reading.identity)

    async def _take_message(self, reading: _Reading, message: Any) -> bool:
        """Take a message in; False if it was turned away at the door."""
        pubsub = self._pubsub
        topic = self._door.topic_of(reading.peer_id, message)
        if topic is None:
            return False
        pubsub.router.control.promises.on_received(pubsub.get_message_id(message))
        if pubsub.is_known(message):
            return True
        if not self._door.admits(reading.peer_id, topic, message):
            return False
        if topic.checks_at_once:
            await pubsub.push_contained(reading.identity, message)
            return True
        slots = await self._take_slots(reading)
        if pubsub.manager.is_running:
            pubsub.manager.run_task(self._check, reading, message, slots)
        return True

    async def _take_slots(self, reading: _Reading) -> list[trio.Semaphore]:
        """Wait for a place among the messages under validation; some are only for members."""
        taken: list[trio.Semaphore] = []
        wanted = [reading.in_check, self._in_check]
        if not self._gate.standings.of(reading.peer_id).is_reserved:
            wanted.insert(1, self._in_check_unreserved)
        try:
            for slot in wanted:
                await slot.acquire()
                taken.append(slot)
        except trio.Cancelled:
            _release(taken)
            raise
        return taken

    async def _check(self, reading: _Reading, message: Any, slots: list[trio.Semaphore]) -> None:
        try:
            await self._pubsub.push_msg(reading.identity, message)
        finally:
            _release(slots)


def _release(slots: list[trio.Semaphore]) -> None:
    for slot in slots:
        slot.release()
