"""One client's connection: its requests, its subscriptions, and what is waiting to be sent.

Rules:
1. Requests are answered concurrently, at most `PARALLEL` of a connection at a time.
2. Everything goes out through one bounded queue, so an answer with a subscription's id is sent
   before the subscription's first notification. There is room for every answer; notifications
   that a client does not read in time are lost to it, counted in `dropped`.
3. Whatever is not a JSON-RPC request is answered with an error, never with silence.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from chain.devchain.admin import INVALID_PARAMS, Admin
from chain.devchain.errors import MALFORMED, RpcError
from chain.devchain.knobs import Knobs
from chain.devchain.ledger import Finalised, Ledger, NewHead, Notice, Watched, hexed
from chain.devchain.rpc import Rpc

PARALLEL = 64
QUEUE = 4096
MOST_SUBSCRIPTIONS = 256
TOO_MANY = -32006
PARSE_ERROR = -32700
INVALID_REQUEST = -32600

_HEADS: dict[str, tuple[type[NewHead] | type[Finalised], str]] = {
    "chain_subscribeNewHeads": (NewHead, "chain_newHead"),
    "chain_subscribeNewHead": (NewHead, "chain_newHead"),
    "chain_subscribeAllHeads": (NewHead, "chain_allHead"),
    "chain_subscribeFinalizedHeads": (Finalised, "chain_finalizedHead"),
}
_ENDS = frozenset(
    {
        "chain_unsubscribeNewHeads", "chain_unsubscribeNewHead", "chain_unsubscribeAllHeads",
        "chain_unsubscribeFinalizedHeads", "state_unsubscribeStorage",
        "state_unsubscribeRuntimeVersion", "author_unwatchExtrinsic",
    }
)  # fmt: skip

Listener = Callable[[Notice], object]
"""Returns what a subscription's client is told of a notice; None for nothing."""

Notification = tuple[str, str, object]
"""Method, subscription, and what is told."""

Opened = tuple[str, Listener, object]
"""The notifications' method, who makes them, and the first one."""


class Session:
    """Serves one connection. With `faults` off the knobs do not touch it (the admin port)."""

    _ids = itertools.count(1)

    def __init__(
        self,
        socket: WebSocketConnection,
        ledger: Ledger,
        rpc: Rpc,
        admin: Admin,
        publish: Callable[[list[Notice]], None],
        *,
        faults: bool,
    ) -> None:
        self.dropped = 0
        self._socket = socket
        self._ledger = ledger
        self._rpc = rpc
        self._admin = admin
        self._publish = publish
        self._faults = faults
        self._subscriptions: dict[str, tuple[str, Listener]] = {}
        self._room = trio.Semaphore(PARALLEL)
        self._outgoing, self._queue = trio.open_memory_channel[tuple[str, bool]](QUEUE + PARALLEL)

    @property
    def _knobs(self) -> Knobs:
        return self._ledger.knobs

    async def serve(self) -> None:
        """Answer until the client goes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            while True:
                try:
                    message = await self._socket.get_message()
                except ConnectionClosed:
                    break
                await self._room.acquire()
                nursery.start_soon(self._answer, message)
            nursery.cancel_scope.cancel()

    def notify(self, notice: Notice) -> None:
        """Tell the subscriptions whom it concerns."""
        for key, (method, listener) in tuple(self._subscriptions.items()):
            told = listener(notice)
            if told is not None:
                self._tell(method, key, told)

    async def _send(self) -> None:
        async for text, is_answer in self._queue:
            try:
                await self._socket.send_message(text)
            except ConnectionClosed:
                return  # the reader sees it as well, and ends the session
            if is_answer:
                self._room.release()

    async def _answer(self, message: str | bytes) -> None:
        if self._faults and self._knobs.delay_ms:
            await trio.sleep(self._knobs.delay_ms / 1000)
        # No checkpoint between what is done and what is queued: nothing may come in between.
        response, first = self._response(message)
        self._outgoing.send_nowait((json.dumps(response), True))
        for notification in first:
            self._tell(*notification)

    def _tell(self, method: str, subscription: str, told: object) -> None:
        if self._outgoing.statistics().current_buffer_used >= QUEUE:
            self.dropped += 1
            return
        params = {"subscription": subscription, "result": told}
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params})
        self._outgoing.send_nowait((text, False))

    def _response(self, message: str | bytes) -> tuple[dict[str, Any], list[Notification]]:
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            return _failure(None, RpcError(PARSE_ERROR, "Parse error")), []
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request")), []
        params = request.get("params") or []
        if not isinstance(params, list):
            wrong = RpcError(INVALID_REQUEST, "Invalid request", "params: want a list")
            return _failure(request.get("id"), wrong), []
        first: list[Notification] = []
        try:
            result = self._result(request["method"], params, first)
        except RpcError as error:
            return _failure(request.get("id"), error), []
        return {"jsonrpc": "2.0", "id": request.get("id"), "result": result}, first

    def _result(self, method: str, params: list[Any], first: list[Notification]) -> object:
        answer = self._knobs.next_error(method) if self._faults else None
        if answer is not None:
            raise RpcError(answer.code, answer.message, answer.data)
        if method.startswith("dev_"):
            result, notices = self._admin.call(method, params)
            self._publish(notices)
            return result
        if method in _ENDS:
            return self._subscriptions.pop(str(params[0]) if params else "", None) is not None
        opener = _OPENERS.get(method)
        if opener is None:
            return self._rpc.call(method, params)
        if len(self._subscriptions) >= MOST_SUBSCRIPTIONS:
            raise RpcError(TOO_MANY, "Too many subscriptions on the connection")
        try:
            name, listener, told = opener(self, method, params)
        except MALFORMED as error:
            raise RpcError(INVALID_PARAMS, f"{method}: {error}") from error
        key = f"{next(self._ids):016x}"
        self._subscriptions[key] = (name, listener)
        if told is not None:
            first.append((name, key, told))
        return key

    def _heads(self, method: str, _params: list[Any]) -> Opened:
        kind, name = _HEADS[method]
        block = self._ledger.head if kind is NewHead else self._ledger.final

        def listener(notice: Notice) -> object:
            if isinstance(notice, Watched) or not isinstance(notice, kind):
                return None
            return notice.block.header

        return name, listener, block.header

    def _runtime_version(self, _method: str, _params: list[Any]) -> Opened:
        return "state_runtimeVersion", lambda _notice: None, self._rpc.runtime_version()

    def _storage(self, _method: str, params: list[Any]) -> Opened:
        keys = list(params[0])
        known = self._rpc.values(keys)

        def listener(notice: Notice) -> object:
            nonlocal known
            if not isinstance(notice, NewHead):
                return None
            values = self._rpc.values(keys)
            changed = [new for new, old in zip(values, known, strict=True) if new != old]
            known = values
            if not changed:
                return None
            return {"block": hexed(notice.block.hash), "changes": changed}

        head = hexed(self._ledger.head.hash)
        return "state_storage", listener, {"block": head, "changes": known}

    def _watch(self, _method: str, params: list[Any]) -> Opened:
        data = bytes.fromhex(str(params[0]).removeprefix("0x"))
        extrinsic, status = self._ledger.submit(data)

        def listener(notice: Notice) -> object:
            mine = isinstance(notice, Watched) and notice.extrinsic_hash == extrinsic.hash
            return notice.status if mine and isinstance(notice, Watched) else None

        return "author_extrinsicUpdate", listener, status


_OPENERS: dict[str, Callable[[Session, str, list[Any]], Opened]] = {
    **dict.fromkeys(_HEADS, Session._heads),
    "state_subscribeRuntimeVersion": Session._runtime_version,
    "state_subscribeStorage": Session._storage,
    "author_submitAndWatchExtrinsic": Session._watch,
}


def _failure(request_id: object, error: RpcError) -> dict[str, Any]:
    told: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        told["data"] = error.data
    return {"jsonrpc": "2.0", "id": request_id, "error": told}
