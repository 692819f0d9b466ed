"""Long-lived direct links: one outbound stream a peer and protocol, frames in order.

Rules: a link opens to each wanted peer as soon as it is connected and opens again, with a back-off
of 50 ms doubling to 10 s, while it stays so. The first frame is the opener's hello; the other side
admits the stream with an empty frame or resets it, and only then is the link up; a hello is small,
and a peer has `UNADMITTED_PER_PEER` of them under way. `send` never blocks: frames wait in a
bounded queue a peer, when it is full the stalest one goes. Urgent frames overtake the others, and
go only when nothing else is left to drop. A frame given to a stream that is then lost is lost too:
the consumer repeats what matters, `on_link_up` is when.
"""

import inspect
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from validator_node.network.connections import Connections
from validator_node.network.errors import FrameTooLargeError, NetworkError
from validator_node.network.limits import Gate
from validator_node.network.requests import charge_for, reason_of
from validator_node.network.streams import FramedStream, StreamOpener

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.05
MAX_RETRY_S: Final = 10.0
STEADY_S: Final = 1.0
HELLO_S: Final = 10.0
SEND_S: Final = 10.0
BATCH_BYTES: Final = 262_144
MAX_QUEUES: Final = 1_024
MAX_HELLO_BYTES: Final = 65_536
UNADMITTED_PER_PEER: Final = 4

Hello = Callable[[], bytes]
OnHello = Callable[[str, bytes], Awaitable[bool]]
OnFrame = Callable[[str, bytes], Awaitable[None] | None]
OnLink = Callable[[str], Awaitable[None] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkConfig:
    """What a consumer asks of its links; see `Network.open_links`."""

    protocol: str
    on_frame: OnFrame
    hello: Hello | None = None
    on_hello: OnHello | None = None
    on_link_up: OnLink | None = None
    on_link_down: OnLink | None = None
    wanted: Callable[[str], bool] = lambda _: True
    capacity: int = 256
    max_frame_bytes: int = 4_194_304

    def __post_init__(self) -> None:
        if (self.hello is None) != (self.on_hello is None):
            raise ValueError("hello and on_hello come together: one side's first frame is both")
        if self.capacity < 1 or self.max_frame_bytes < 1:
            raise ValueError("a link needs room for one frame of one byte at least")


@dataclass(slots=True)
class _Link:
    """The outbound side to one peer."""

    peer_id: str
    urgent: deque[bytes] = field(default_factory=deque)
    queue: deque[bytes] = field(default_factory=deque)
    queued_bytes: int = 0
    wake: trio.Event = field(default_factory=trio.Event)
    running: bool = False
    up: bool = False

    def __len__(self) -> int:
        return len(self.urgent) + len(self.queue)

    def drop_stalest(self) -> None:
        """Make room: what is not urgent goes first."""
        self.queued_bytes -= len((self.queue or self.urgent).popleft())

    def take(self, limit_bytes: int) -> list[bytes]:
        """Return the next frames, urgent ones first: up to `limit_bytes`, one at least."""
        batch: list[bytes] = []
        size = 0
        while waiting := self.urgent or self.queue:
            if batch and size + len(waiting[0]) > limit_bytes:
                break
            batch.append(waiting.popleft())
            size += len(batch[-1])
        self.queued_bytes -= size
        return batch


class Links:
    """The links of one protocol."""

    def __init__(
        self,
        host: Any,
        opener: StreamOpener,
        connections: Connections,
        gate: Gate,
        nursery: trio.Nursery,
        config: LinkConfig,
    ) -> None:
        self._opener = opener
        self._connections = connections
        self._gate = gate
        self._counters = gate.counters
        self._nursery = nursery
        self._config = config
        self._max_queued_bytes = 4 * config.max_frame_bytes
        self._links: dict[str, _Link] = {}
        self._inbound: dict[str, trio.CancelScope] = {}
        self._unadmitted: Counter[str] = Counter()
        self._changed = trio.Event()
        host.set_stream_handler(config.protocol, self._accept)
        connections.subscribe(self._on_connected)

    def up(self) -> frozenset[str]:
        """Return the peers whose link is up."""
        return frozenset(link.peer_id for link in self._links.values() if link.up)

    async def wait_up(self, count: int) -> None:
        """Wait until at least `count` links are up."""
        while len(self.up()) < count:
            await self._changed.wait()

    def send(self, peer_id: str, frame: bytes, *, urgent: bool = False) -> bool:
        """Queue a frame for a peer, an urgent one before all others; return whether it was queued.

        It waits while the link is down and the peer has been connected before; a frame for a peer
        never seen is dropped and counted.

        Raises:
            FrameTooLargeError: the frame exceeds `max_frame_bytes`.
        """
        if len(frame) > self._config.max_frame_bytes:
            raise FrameTooLargeError(
                f"a frame of {len(frame)} bytes: at most {self._config.max_frame_bytes}"
            )
        link = self._links.get(peer_id)
        if link is None:
            self._counters.count("dropped", "link_unknown_peer")
            return False
        (link.urgent if urgent else link.queue).append(frame)
        link.queued_bytes += len(frame)
        while len(link) > self._config.capacity or link.queued_bytes > self._max_queued_bytes:
            link.drop_stalest()
            self._counters.count("dropped", "link_queue")
        link.wake.set()
        return True

    def reconsider(self) -> None:
        """Ask `wanted` again for every connected peer, after the validator set changed."""
        for peer_id in self._connections.peers():
            self._on_connected(peer_id)

    # Outbound

    def _on_connected(self, peer_id: str) -> None:
        if not self._config.wanted(peer_id) or self._nursery.cancel_scope.cancel_called:
            return
        link = self._links.get(peer_id)
        if link is None:
            self._make_room()
            link = self._links[peer_id] = _Link(peer_id)
        if not link.running:
            link.running = True
            self._nursery.start_soon(self._run, link)

    def _make_room(self) -> None:
        if len(self._links) >= MAX_QUEUES:
            for peer_id in [p for p, link in self._links.items() if not link.running]:
                self._counters.count("dropped", "link_lost", len(self._links.pop(peer_id)))

    async def _run(self, link: _Link) -> None:
        delay = FIRST_RETRY_S
        try:
            while self._connections.is_connected(link.peer_id) and self._config.wanted(
                link.peer_id
            ):
                began = trio.current_time()
                try:
                    await self._serve_link(link)
                except NetworkError as error:
                    self._counters.count("errors", f"link_{reason_of(error)}")
                    log.debug("link %s to %s: %s", self._config.protocol, link.peer_id, error)
                if trio.current_time() - began > STEADY_S:
                    delay = FIRST_RETRY_S
                with trio.move_on_after(delay):
                    await self._connections.wait_lost(link.peer_id)
                delay = min(2 * delay, MAX_RETRY_S)
        finally:
            link.running = False
        # It may have come back between the last look and this line.
        if self._connections.is_connected(link.peer_id):
            self._on_connected(link.peer_id)

    async def _serve_link(self, link: _Link) -> None:
        config = self._config
        stream = await self._opener.open(
            link.peer_id, config.protocol, max_frame_bytes=config.max_frame_bytes
        )
        try:
            if config.hello is not None:
                await stream.send(config.hello(), deadline_s=HELLO_S)
            await stream.receive(deadline_s=HELLO_S)
            await self._set_up(link, True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, stream, nursery.cancel_scope)
                await self._pump(link, stream)
                nursery.cancel_scope.cancel()
        finally:
            await stream.reset()
            if link.up:
                with trio.CancelScope(shield=True):
                    await self._set_up(link, False)

    async def _set_up(self, link: _Link, up: bool) -> None:
        link.up = up
        self._changed.set()
        self._changed = trio.Event()
        callback = self._config.on_link_up if up else self._config.on_link_down
        if callback is not None:
            await self._call("link_callback", callback, link.peer_id)

    async def _watch(self, stream: FramedStream, scope: trio.CancelScope) -> None:
        """Notice the end of the stream at once; the other side sends nothing on it."""
        try:
            await stream.receive()
        except NetworkError:
            log.debug("link to %s ended", stream.peer_id)
        scope.cancel()

    async def _pump(self, link: _Link, stream: FramedStream) -> None:
        while True:
            while not len(link):
                link.wake = trio.Event()
                await link.wake.wait()
            batch = link.take(BATCH_BYTES)
            try:
                await stream.send(*batch, deadline_s=SEND_S)
            except NetworkError as error:
                self._counters.count("dropped", "link_lost", len(batch))
                self._counters.count("errors", f"link_{reason_of(error)}")
                return

    # Inbound

    async def _accept(self, raw: Any) -> None:
        config = self._config
        first = config.max_frame_bytes if config.on_hello is None else MAX_HELLO_BYTES
        stream = FramedStream(raw, max_frame_bytes=first, gate=self._gate)
        peer_id = stream.peer_id
        with trio.CancelScope() as scope:
            try:
                if await self._admit(stream):
                    stream.max_frame_bytes = config.max_frame_bytes
                    earlier = self._inbound.get(peer_id)
                    if earlier is not None:
                        earlier.cancel()
                    self._inbound[peer_id] = scope
                    await stream.send(b"", deadline_s=HELLO_S)
                    await self._deliver(stream)
            except NetworkError as error:
                self._counters.count("reset", f"link_{reason_of(error)}")
                charge_for(self._gate, peer_id, error)
            finally:
                if self._inbound.get(peer_id) is scope:
                    del self._inbound[peer_id]
                await stream.reset()

    async def _admit(self, stream: FramedStream) -> bool:
        if self._config.on_hello is None:
            return True
        peer_id = stream.peer_id
        if self._unadmitted[peer_id] >= UNADMITTED_PER_PEER:
            self._counters.count("refused", "link_hellos")
            self._gate.scores.charge(peer_id, "stream_refused")
            return False
        self._unadmitted[peer_id] += 1
        try:
            hello = await stream.receive(deadline_s=HELLO_S)
        finally:
            self._unadmitted[peer_id] -= 1
            if not self._unadmitted[peer_id]:
                del self._unadmitted[peer_id]
        admitted = await self._call("link_hello", self._config.on_hello, peer_id, hello)
        if admitted is not True:
            self._counters.count("refused", "link_hello")
            self._gate.scores.charge(peer_id, "hello_refused")
            return False
        return True

    async def _deliver(self, stream: FramedStream) -> None:
        while True:
            frame = await stream.receive()
            if not await self._call("link_frame", self._frame, stream.peer_id, frame):
                return

    async def _frame(self, peer_id: str, frame: bytes) -> bool:
        result = self._config.on_frame(peer_id, frame)
        if inspect.isawaitable(result):
            await result
        return True

    async def _call(self, reason: str, callback: Callable[..., Any], *args: Any) -> Any:
        """Call a consumer's function; its exception is counted and reads as None."""
        try:
            result = callback(*args)
            return await result if inspect.isawaitable(result) else result
        except Exception:
            self._counters.count("errors", reason)
            log.exception("%s of %s failed", reason, self._config.protocol)
            return None
