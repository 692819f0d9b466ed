"""JSON-RPC methods of a substrate node, as functions of the ledger. Subscriptions are not here.

Rules:
1. Answers and error codes have the shape that substrate nodes give them.
2. A state is answered for as long as it is among the last `kept_states`; then, with the words of
   a node that prunes.
3. A storage view is built once for each block that is asked about, and a few are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from chain.devchain.errors import MALFORMED, RpcError
from chain.devchain.ledger import Ledger, SealedBlock, hexed
from chain.devchain.metadata import SPEC_NAME, SPEC_VERSION, TRANSACTION_VERSION
from chain.devchain.runtime_calls import runtime_call
from chain.devchain.storage import storage_of
from protocol.identity import hotkey_of

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
UNKNOWN_BLOCK = 4003
_KEPT_VIEWS = 8
_MOST_KEYS = 1000


class Rpc:
    """Answers the calls of one ledger's clients."""

    def __init__(self, ledger: Ledger, kept_states: int) -> None:
        self._ledger = ledger
        self._kept_states = kept_states
        self._views: OrderedDict[bytes, dict[bytes, bytes]] = OrderedDict()

    def call(self, method: str, params: list[Any]) -> object:
        """Return the result of `method`; `RpcError` for whatever cannot be answered."""
        handler = _METHODS.get(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found", method)
        try:
            return handler(self, *params)
        except MALFORMED as error:
            raise RpcError(INVALID_PARAMS, f"{method}: {error}") from error

    def values(self, keys: list[str], at: str | None = None) -> list[list[str | None]]:
        """Return [key, value or null] for each key, as `state_queryStorageAt` does."""
        view = self._view(at)
        found = ((key, view.get(_unhexed(key))) for key in keys)
        return [[key, None if value is None else hexed(value)] for key, value in found]

    def runtime_version(self, _at: str | None = None) -> dict[str, Any]:
        """Return the versions that an extrinsic is signed for."""
        return {
            "specName": SPEC_NAME,
            "implName": SPEC_NAME,
            "authoringVersion": 1,
            "specVersion": SPEC_VERSION,
            "implVersion": 1,
            "apis": [],
            "transactionVersion": TRANSACTION_VERSION,
            "stateVersion": 1,
        }

    def _methods(self) -> dict[str, Any]:
        return {"methods": sorted(_METHODS)}

    def _block_hash(self, number: int | None = None) -> str | None:
        wanted = self._ledger.head.number if number is None else number
        found = self._ledger.hash_at(wanted)
        return None if found is None else hexed(found)

    def _final_head(self) -> str:
        return hexed(self._ledger.final.hash)

    def _header(self, at: str | None = None) -> dict[str, Any] | None:
        block = self._found(at)
        return None if block is None else block.header

    def _block(self, at: str | None = None) -> dict[str, Any] | None:
        block = self._found(at)
        if block is None:
            return None
        extrinsics = [hexed(one.extrinsic.data) for one in block.included]
        return {
            "block": {"header": block.header, "extrinsics": extrinsics},
            "justifications": None,
        }

    def _storage(self, key: str, at: str | None = None) -> str | None:
        value = self._view(at).get(_unhexed(key))
        return None if value is None else hexed(value)

    def _query_storage(self, keys: list[str], at: str | None = None) -> list[dict[str, Any]]:
        return [{"block": hexed(self._known(at).hash), "changes": self.values(keys, at)}]

    def _keys_paged(
        self, prefix: str, count: int, start: str | None = None, at: str | None = None
    ) -> list[str]:
        if not 0 <= count <= _MOST_KEYS:
            raise ValueError(f"{count} keys, at most {_MOST_KEYS}")
        head, after = _unhexed(prefix), _unhexed(start or "0x")
        keys = sorted(key for key in self._view(at) if key.startswith(head) and key > after)
        return [hexed(key) for key in keys[:count]]

    def _state_call(self, name: str, params: str, at: str | None = None) -> str:
        state = self._with_state(at).state
        return hexed(runtime_call(name, _unhexed(params), state, self._ledger.codec))

    def _metadata(self, _at: str | None = None) -> str:
        return hexed(self._ledger.codec.metadata)

    def _next_index(self, account: str) -> int:
        return self._ledger.next_nonce(hotkey_of(account))

    def _submit(self, extrinsic: str) -> str:
        return hexed(self._ledger.submit(_unhexed(extrinsic))[0].hash)

    def _pending(self) -> list[str]:
        return [hexed(one.extrinsic.data) for one in self._ledger.pool.in_order()]

    def _health(self) -> dict[str, Any]:
        return {"peers": 0, "isSyncing": False, "shouldHavePeers": False}

    def _properties(self) -> dict[str, Any]:
        return {"ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO"}

    def _chain(self) -> str:
        return "Devchain"

    def _name(self) -> str:
        return "Subtensor Node"

    def _version(self) -> str:
        return "devchain"

    def _found(self, at: str | None) -> SealedBlock | None:
        return self._ledger.head if at is None else self._ledger.block_of(_unhexed(at))

    def _known(self, at: str | None) -> SealedBlock:
        block = self._found(at)
        if block is None:
            raise RpcError(
                UNKNOWN_BLOCK, "Client error: UnknownBlock: Header was not found in the database"
            )
        return block

    def _with_state(self, at: str | None) -> SealedBlock:
        block = self._known(at)
        if block.number <= self._ledger.head.number - self._kept_states:
            raise RpcError(
                UNKNOWN_BLOCK,
                f"Client error: UnknownBlock: State already discarded for {hexed(block.hash)}",
            )
        return block

    def _view(self, at: str | None) -> dict[bytes, bytes]:
        block = self._with_state(at)
        view = self._views.get(block.hash)
        if view is None:
            view = storage_of(block.state, self._ledger.codec, block.events, block.parent_hash)
            self._views[block.hash] = view
            if len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(block.hash)
        return view


def _unhexed(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is not hexadecimal text")
    return bytes.fromhex(text.removeprefix("0x"))


_METHODS: dict[str, Callable[..., object]] = {
    "account_nextIndex": Rpc._next_index,
    "author_pendingExtrinsics": Rpc._pending,
    "author_submitExtrinsic": Rpc._submit,
    "chain_getBlock": Rpc._block,
    "chain_getBlockHash": Rpc._block_hash,
    "chain_getFinalizedHead": Rpc._final_head,
    "chain_getHead": Rpc._block_hash,
    "chain_getHeader": Rpc._header,
    "rpc_methods": Rpc._methods,
    "state_call": Rpc._state_call,
    "state_getKeysPaged": Rpc._keys_paged,
    "state_getKeysPagedAt": Rpc._keys_paged,
    "state_getMetadata": Rpc._metadata,
    "state_getRuntimeVersion": Rpc.runtime_version,
    "state_getStorage": Rpc._storage,
    "state_getStorageAt": Rpc._storage,
    "state_queryStorageAt": Rpc._query_storage,
    "system_accountNextIndex": Rpc._next_index,
    "system_chain": Rpc._chain,
    "system_health": Rpc._health,
    "system_name": Rpc._name,
    "system_properties": Rpc._properties,
    "system_version": Rpc._version,
}
