"""What the tests of the development chain share: keys, a small subnet, signed extrinsics."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from bittensor_core import Keypair, encrypt_at_round, era_birth, inner_ciphertext
from trio_websocket import WebSocketConnection, open_websocket_url

from chain.devchain.config import NeuronConfig, RunConfig, SubnetConfig, genesis_state
from chain.devchain.errors import RpcError
from chain.devchain.knobs import Knobs
from chain.devchain.ledger import Ledger
from chain.devchain.metadata import Codec
from chain.devchain.scale import compact, vec_u16
from chain.devchain.state import State

NETUID = 7
BLOCK_MS = 1000
STAKE = 1000
WEIGHTS = {"dests": [0, 2], "weights": [30000, 30000]}

DRAND_ROUND = 1000
DRAND_SIGNATURE = (
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125"
    "e342b73a8dd2bacbe47e4b6b63ed5e39"
)
"""The signature of drand quicknet's round 1000, which everybody can look up."""

PAIRS = [Keypair.create_from_seed(bytes([n]) * 32) for n in range(1, 8)]
KEYS = [bytes(pair.public_key) for pair in PAIRS]
ADDRESSES = [str(pair.ss58_address) for pair in PAIRS]
NEWCOMER = 5
"""Place of a key that is an account, but not registered; the one after it is not even that."""


@functools.cache
def codec() -> Codec:
    return Codec(BLOCK_MS)


def subnet(**rules: Any) -> SubnetConfig:
    """Five validators; uid 4 is the owner's. No commit-reveal and one-block limits by default."""
    defaults = {"commit_reveal": False, "tempo": 10, "weights_rate_limit": 1}
    return SubnetConfig(
        netuid=NETUID,
        neurons=tuple(
            NeuronConfig(hotkey=address, stake=STAKE, validator_permit=True)
            for address in ADDRESSES[:5]
        ),
        owner=ADDRESSES[4],
        accounts=(ADDRESSES[NEWCOMER],),
        rules={**defaults, **rules},
    )


def genesis(**rules: Any) -> State:
    return genesis_state(subnet(**rules), BLOCK_MS)


def ledger(finality_lag: int = 0, **rules: Any) -> Ledger:
    return Ledger(genesis(**rules), codec(), Knobs(), finality_lag)


def signed(
    chain: Ledger,
    who: int,
    function: str = "set_weights",
    *,
    nonce: int | None = None,
    period: int | None = 64,
    module: str = "SubtensorModule",
    **arguments: Any,
) -> bytes:
    """Return an extrinsic as the SDK makes it: by the codec, not by the code under test."""
    if module == "SubtensorModule":
        arguments.setdefault("netuid", NETUID)
    if function.startswith("set_"):
        arguments = {**WEIGHTS, "version_key": 0, **arguments}
    runtime, pair = chain.codec.runtime, PAIRS[who]
    call = bytes(runtime.compose_call(module, function, arguments))
    if nonce is None:
        nonce = chain.next_nonce(KEYS[who])
    current = chain.final.number
    era = "00" if period is None else {"period": period, "current": current}
    birth = 0 if period is None else int(era_birth(period, current))
    birth_hash = chain.hash_at(birth)
    terms = {"era": era, "nonce": nonce, "tip": 0, "tip_asset_id": None}
    payload = runtime.signature_payload(
        call, genesis_hash=chain.genesis.hash, era_block_hash=birth_hash, **terms
    )
    data, _hash = runtime.encode_signed_extrinsic(
        call,
        public_key=KEYS[who],
        signature=bytes(pair.sign(bytes(payload))),
        signature_version=1,
        **terms,
    )
    return bytes(data)


def include(chain: Ledger, data: bytes) -> list[dict[str, Any]]:
    """Submit an extrinsic, make the next block, and return the block's decoded events."""
    chain.submit(data)
    chain.produce(chain.head.state.timestamp_ms + BLOCK_MS)
    return events(chain)


def events(chain: Ledger) -> list[dict[str, Any]]:
    entry = chain.codec.runtime.storage_entry("System", "Events")
    decoded: list[dict[str, Any]] = chain.codec.runtime.decode(entry.value_type, chain.head.events)
    return decoded


def outcome(chain: Ledger, data: bytes) -> str:
    """Include an extrinsic and return "Success", or the name of the error in its event."""
    last = include(chain, data)[-1]
    if last["event_id"] == "ExtrinsicSuccess":
        return "Success"
    module = last["attributes"]["dispatch_error"]["Module"]
    error = bytes.fromhex(module["error"][2:])[0]
    return str(chain.codec.runtime.module_error(module["index"], error)[0])


def sealed_commit(
    who: int, uids: list[int], values: list[int], *, version_key: int = 0, named: int | None = None
) -> bytes:
    """Return a timelocked commit for drand round 1000; `named` is whose key stands inside."""
    hotkey = KEYS[who if named is None else named]
    payload = (
        compact(len(hotkey))
        + hotkey
        + vec_u16(uids)
        + vec_u16(values)
        + version_key.to_bytes(8, "little")
    )
    envelope, _round = encrypt_at_round(payload, DRAND_ROUND)
    return bytes(inner_ciphertext(bytes(envelope)))


def run_config(**changes: Any) -> RunConfig:
    return RunConfig(**{"port": 0, "block_time_ms": 20, **changes})


class Client:
    """A JSON-RPC client that keeps notifications apart from answers."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self.notifications: list[dict[str, Any]] = []

    async def call(self, method: str, *params: object) -> Any:
        """Return the result; raises the server's error as `RpcError`."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": list(params)}
        return await self.exchange(json.dumps(request))

    async def exchange(self, text: str) -> Any:
        await self._socket.send_message(text)
        while True:
            answer = json.loads(await self._socket.get_message())
            if "method" in answer:
                self.notifications.append(answer)
            elif "error" in answer:
                raise RpcError(**{"data": None, **answer["error"]})
            else:
                return answer["result"]

    async def told(self) -> Any:
        """Return what the next notification says."""
        if not self.notifications:
            self.notifications.append(json.loads(await self._socket.get_message()))
        return self.notifications.pop(0)["params"]["result"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    with trio.fail_after(20):
        async with open_websocket_url(url, disconnect_timeout=0.2) as socket:
            yield Client(socket)
