"""The trio shell: two listening sockets, the block clock, and the file that survives.

Rules:
1. Faults touch the chain's port only. The admin port answers always, so that what was broken can
   be mended.
2. Blocks come from the clock, from the admin, or both. Whoever made them, everybody subscribed is
   told, and then the file is written.
3. It listens on loopback unless told otherwise: there are no secrets here, and no limits on what
   the admin port lets one do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, wrap_server_stream
from wsproto.utilities import ProtocolError

from chain.devchain.admin import Admin
from chain.devchain.config import RunConfig, SubnetConfig, genesis_state
from chain.devchain.errors import DevChainError
from chain.devchain.knobs import Knobs
from chain.devchain.ledger import Ledger, Notice
from chain.devchain.metadata import Codec
from chain.devchain.rpc import Rpc
from chain.devchain.saving import load, save
from chain.devchain.session import Session
from chain.devchain.valve import Valve, ValvedListener, ValvedStream

MOST_CONNECTIONS = 256
_MOST_MESSAGE_BYTES = 4 * 1024 * 1024
_HANDSHAKE_SECONDS = 10.0
_LAST_PORT = 65535


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class DevChain:
    """A running development chain; made by `open_devchain`.

    `broken_off` counts the connections that ended otherwise than by a goodbye, `dropped` the
    notifications that clients, gone since, did not read in time.
    `ledger` may be read at any time. Whatever changes it goes through `call`, so that subscribers
    and the file learn of it.
    """

    def __init__(
        self, subnet: SubnetConfig, run: RunConfig, now_ms: Callable[[], int] = _wall_clock_ms
    ) -> None:
        self.run = run
        self.port = 0
        self.admin_port = 0
        self.broken_off = 0
        self.dropped = 0
        genesis = genesis_state(subnet, run.block_time_ms)
        self.ledger = Ledger(genesis, Codec(run.block_time_ms), Knobs(), run.finality_lag)
        if run.state_file is not None:
            load(run.state_file, self.ledger)
        self._rpc = Rpc(self.ledger, run.kept_states)
        self._admin = Admin(self.ledger, now_ms)
        self._now_ms = now_ms
        self._valve = Valve()
        self._sessions: set[Session] = set()
        self._progress = trio.Event()

    @property
    def url(self) -> str:
        """Where the SDK connects to."""
        return f"ws://{self.run.host}:{self.port}"

    @property
    def admin_url(self) -> str:
        """The same chain, out of reach of the faults."""
        return f"ws://{self.run.host}:{self.admin_port}"

    def call(self, method: str, *params: object) -> object:
        """Call a `dev_*` method (`chain.devchain.admin`); raises `RpcError`."""
        result, notices = self._admin.call(method, list(params))
        self._publish(notices)
        return result

    async def reached(self, block: int, *, final: bool = False) -> None:
        """Return when the head (or the newest final block) is `block` or later."""
        while (self.ledger.final if final else self.ledger.head).number < block:
            await self._progress.wait()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; raises `DevChainError` if a port or the file cannot be used."""
        async with trio.open_nursery() as nursery:
            admin_port = self.run.admin_port
            if admin_port is None:
                admin_port = 0 if self.run.port in (0, _LAST_PORT) else self.run.port + 1
            self.port = await nursery.start(partial(self._listen, self.run.port, faults=True))
            self.admin_port = await nursery.start(partial(self._listen, admin_port, faults=False))
            nursery.start_soon(self._clock)
            task_status.started()

    async def _listen(self, port: int, *, faults: bool, task_status: trio.TaskStatus[int]) -> None:
        try:
            listeners = await trio.open_tcp_listeners(port, host=self.run.host)
        except OSError as error:
            raise DevChainError(
                f"cannot listen on {self.run.host}:{port}: {error}; choose another port"
            ) from error
        task_status.started(listeners[0].socket.getsockname()[1])
        valve = self._valve if faults else Valve()
        await trio.serve_listeners(
            partial(self._serve_stream, faults=faults),
            [ValvedListener(one, valve) for one in listeners],
        )

    async def _serve_stream(self, stream: ValvedStream, *, faults: bool) -> None:
        await stream.passed()  # while it is shut, the client's deadline is the only one
        request: WebSocketRequest | None = None
        try:
            async with trio.open_nursery() as nursery:
                with trio.move_on_after(_HANDSHAKE_SECONDS):
                    request = await wrap_server_stream(
                        nursery, stream, max_message_size=_MOST_MESSAGE_BYTES
                    )
                if request is not None:
                    await self._serve_request(request, faults)
                nursery.cancel_scope.cancel()
        except* (ConnectionClosed, ProtocolError):
            # The library lets these out when a client speaks nonsense or breaks off.
            self.broken_off += 1

    async def _serve_request(self, request: WebSocketRequest, faults: bool) -> None:
        if len(self._sessions) >= MOST_CONNECTIONS:
            await request.reject(429)
            return
        socket = await request.accept()
        session = Session(socket, self.ledger, self._rpc, self._admin, self._publish, faults=faults)
        self._sessions.add(session)
        try:
            await session.serve()
        finally:
            self._sessions.discard(session)
            self.dropped += session.dropped

    async def _clock(self) -> None:
        step = self.run.block_time_ms / 1000
        due = trio.current_time()
        while True:
            # A clock that fell behind does not make up for it: blocks are never closer than this.
            due = max(due + step, trio.current_time())
            await trio.sleep_until(due)
            if not self.ledger.knobs.blocks_paused:
                self._publish(self.ledger.produce(self._now_ms()))

    def _publish(self, notices: list[Notice]) -> None:
        self._valve.turn(self.ledger.knobs.silent)
        if not notices:
            return
        for session in tuple(self._sessions):
            for notice in notices:
                session.notify(notice)
        if self.run.state_file is not None:
            save(self.run.state_file, self.ledger)
        self._progress.set()
        self._progress = trio.Event()


@asynccontextmanager
async def open_devchain(
    subnet: SubnetConfig, run: RunConfig, now_ms: Callable[[], int] = _wall_clock_ms
) -> AsyncIterator[DevChain]:
    """Run a development chain for as long as the block lasts."""
    chain = DevChain(subnet, run, now_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.serve)
        yield chain
        nursery.cancel_scope.cancel()
