"""A node of the network that is fed through in-memory streams.

Every stream handler that a node registers is called as the library calls it, with a stream that
ends after the input. The node, its host and its gossip run in a trio loop of their own, so that
inputs follow each other without starting anything. Each input comes from a peer nobody knows yet,
so that no ban is in the way.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import trio

DEADLINE_S = 10.0
PIECES = (1, 7, 100, 1_000_000)
MOST_PIECES = 256
HANDLER_ERRORS = ("request_handler", "link_frame", "link_hello", "gossip_check")
"""What the network counts for an exception it has contained in one of our own handlers."""


class HandlerError(AssertionError):
    """One of our own handlers raised something; the network has contained it."""


class InputStream:
    """A stream that carries the input in pieces and then ends; what is written is counted."""

    def __init__(self, protocol: str, peer_id: Any, data: bytes) -> None:
        self.muxed_conn = SimpleNamespace(peer_id=peer_id, event_closed=trio.Event())
        self.protocol_id = protocol
        self.written = 0
        self._data = memoryview(data)
        self._piece = max(PIECES[len(data) % len(PIECES)], len(data) // MOST_PIECES)

    def get_protocol(self) -> str:
        return self.protocol_id

    async def read(self, count: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        size = min(self._piece, len(self._data) if count is None or count < 0 else count)
        part, self._data = self._data[:size], self._data[size:]
        return bytes(part)

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += len(data)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    reset = close
    close_write = close
    close_read = close


class Victim:
    """A running node; `feed` gives one of its handlers an input."""

    def __init__(self, services: Callable[[Any, trio.Nursery], Any], dht: Any = None) -> None:
        """`services(network, nursery)` is a coroutine function that registers the handlers."""
        self._services = services
        self._dht = dht
        self._started: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._main, name="victim", daemon=True)

    def __enter__(self) -> Victim:
        logging.disable(logging.CRITICAL)
        self._thread.start()
        started = self._started.get(timeout=60)
        if isinstance(started, BaseException):
            raise started
        self._token, self._network, self._stop = started
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
        self._thread.join(timeout=60)
        logging.disable(logging.NOTSET)
        assert not self._thread.is_alive()

    def feed(self, protocol: str, data: bytes) -> None:
        """Let a stranger open a stream, send `data` and end it.

        Raises what the handler raises, `HandlerError` for what was contained in one of ours, and
        `trio.TooSlowError` if it does not end.
        """
        before = self._failures()
        trio.from_thread.run(self._feed, protocol, data, trio_token=self._token)
        if self._failures() != before:
            raise HandlerError(f"{protocol}: {data[:64].hex()}... made a handler fail")

    def protocols(self) -> tuple[str, ...]:
        """Every protocol that the node speaks."""
        return tuple(str(name) for name in self._handlers())

    def _handlers(self) -> Any:
        return self._network._host.multiselect.handlers

    def _failures(self) -> int:
        counters = self._network.counters
        return sum(counters[("errors", reason)] for reason in HANDLER_ERRORS)

    async def _feed(self, protocol: str, data: bytes) -> None:
        from libp2p.crypto.ed25519 import create_new_key_pair
        from libp2p.peer.id import ID

        peer_id = ID.from_pubkey(create_new_key_pair(secrets.token_bytes(32)).public_key)
        with trio.fail_after(DEADLINE_S):
            await self._handlers()[protocol](InputStream(protocol, peer_id, data))

    def _main(self) -> None:
        try:
            trio.run(self._run)
        except BaseException as error:
            self._started.put(error)
            raise

    async def _run(self) -> None:
        from validator_node.network import NetworkConfig, open_network

        seed = bytes(31) + b"v"
        config = NetworkConfig(seed=seed, listen_host="127.0.0.1", listen_port=0, dht=self._dht)
        stop = trio.Event()
        async with open_network(config) as network, trio.open_nursery() as nursery:
            await self._services(network, nursery)
            self._started.put((trio.lowlevel.current_trio_token(), network, stop))
            await stop.wait()
            nursery.cancel_scope.cancel()
