"""The runtime metadata of subtensor spec 461, and the codec made from it.

Rules:
1. The metadata is the live chain's own, so that every index, type and storage key is the real
   one; only `bittensor_core`, which the SDK uses as well, encodes and decodes by it.
2. Two things are changed on loading, both byte by byte and checked. The storage item
   `SubtensorModule.SubnetEpochConsensus` is added, because the SDK 11.3.0 asks for it before each
   weights call (a `u8`, 0: the SDK takes anything but 1 and `Null` for Yuma consensus). And
   `Aura.SlotDuration` becomes the configured block time, from which the SDK computes drand
   rounds and waiting times; the file is of a build for fast blocks, with 250 ms.
"""

from __future__ import annotations

import functools
import zlib
from importlib import resources
from typing import Any

from bittensor_core import Runtime

from chain.devchain.scale import compact
from protocol.identity import SS58_FORMAT

SPEC_NAME = "node-subtensor"
SPEC_VERSION = 461
TRANSACTION_VERSION = 1
PALLET = "SubtensorModule"

_FILE = "metadata461.bin.z"
_SLOT_DURATION_MS = 250
_HASHER_IDENTITY = b"\x06"


def _text(value: str) -> bytes:
    return compact(len(value)) + value.encode()


def _replaced(data: bytes, old: bytes, new: bytes, what: str) -> bytes:
    if data.count(old) != 1:
        raise ValueError(f"{_FILE}: {what} occurs {data.count(old)} times, not once")
    return data.replace(old, new)


def _with_epoch_consensus(data: bytes, u8: int, netuid: int) -> bytes:
    """Return the metadata with one more storage item at the front of the pallet's."""
    head = _text(PALLET) + b"\x01" + _text(PALLET)
    at = data.find(head) + len(head)
    count = int.from_bytes(data[at : at + 2], "little") >> 2
    item = (
        _text("SubnetEpochConsensus")
        + b"\x01"  # a value that is missing reads as the default
        + b"\x01"  # a map
        + compact(1)
        + _HASHER_IDENTITY
        + compact(netuid)
        + compact(u8)
        + compact(1)
        + b"\x00"
        + compact(0)  # no documentation
    )
    return _replaced(
        data, head + compact(count), head + compact(count + 1) + item, "the pallet's storage"
    )


def _with_block_time(data: bytes, u64: int, block_time_ms: int) -> bytes:
    head = _text("SlotDuration") + compact(u64) + compact(8)
    return _replaced(
        data,
        head + _SLOT_DURATION_MS.to_bytes(8, "little"),
        head + block_time_ms.to_bytes(8, "little"),
        "Aura.SlotDuration",
    )


@functools.lru_cache(maxsize=4)
def metadata(block_time_ms: int) -> bytes:
    """Return the metadata that a chain with this block time hands out."""
    packed = resources.files("chain.devchain").joinpath("data", _FILE).read_bytes()
    data = zlib.decompress(packed)
    plain = Runtime(data, SPEC_VERSION, TRANSACTION_VERSION, SS58_FORMAT)
    data = _with_epoch_consensus(data, plain.type_id_of("u8"), plain.type_id_of("NetUid"))
    return _with_block_time(data, plain.type_id_of("u64"), block_time_ms)


class Codec:
    """The runtime's types: storage, calls, events, errors and interfaces, by their names."""

    def __init__(self, block_time_ms: int) -> None:
        self.metadata = metadata(block_time_ms)
        self.runtime = Runtime(self.metadata, SPEC_VERSION, TRANSACTION_VERSION, SS58_FORMAT)
        self._errors: dict[str, tuple[int, int]] = {}
        pallets = {one["name"]: one for one in self.runtime.metadata_ir()["pallets"]}
        for name in ("System", PALLET):
            for error in pallets[name]["errors"]:
                self._errors[error["name"]] = (int(pallets[name]["index"]), int(error["index"]))
        self._apis = self.runtime.runtime_api_map()

    def key(self, pallet: str, item: str, *params: object) -> bytes:
        """Return the storage key of an item, or the prefix if `params` are fewer than its keys."""
        return bytes(self.runtime.storage_key(pallet, item, list(params)))

    def value(self, pallet: str, item: str, value: object) -> bytes:
        """Return the value of a storage item, encoded."""
        entry = self.runtime.storage_entry(pallet, item)
        return bytes(self.runtime.encode(entry.value_type, value))

    def result(self, api: str, method: str, value: object) -> bytes:
        """Return the result of a runtime interface's method, encoded."""
        return bytes(self.runtime.encode(self._apis[api][method]["output"], value))

    def call(self, data: bytes) -> dict[str, Any]:
        """Return a call with its module, function and arguments; `ValueError` if it is none."""
        decoded: dict[str, Any] = self.runtime.decode_call(data)
        return decoded

    def module_error(self, name: str) -> dict[str, Any]:
        """Return the dispatch error of the pallet's (or the system's) error `name`."""
        pallet, error = self._errors[name]
        return {"Module": {"index": pallet, "error": [error, 0, 0, 0]}}
