"""The metadata that is handed out: the live chain's, with two changes."""

from __future__ import annotations

import pytest

from chain.devchain.metadata import Codec, metadata
from tests.chain.devchain.support import BLOCK_MS, NETUID, codec


def test_the_block_time_is_the_configured_one():
    assert codec().runtime.constant("Aura", "SlotDuration") == BLOCK_MS
    assert Codec(12_000).runtime.constant("Aura", "SlotDuration") == 12_000


def test_the_item_the_sdk_asks_for_is_there_and_reads_as_yuma():
    entry = codec().runtime.storage_entry("SubtensorModule", "SubnetEpochConsensus")
    assert list(entry.param_hashers) == ["Identity"]
    assert bytes(entry.default_bytes) == b"\x00"
    key = codec().key("SubtensorModule", "SubnetEpochConsensus", NETUID)
    assert key[-2:] == NETUID.to_bytes(2, "little")
    assert codec().value("SubtensorModule", "SubnetEpochConsensus", 1) == b"\x01"


def test_nothing_else_of_the_pallet_moved():
    pallets = {one["name"]: one for one in codec().runtime.metadata_ir()["pallets"]}
    pallet = pallets["SubtensorModule"]
    assert (pallet["index"], len(pallet["storage"]), len(pallet["errors"])) == (7, 267, 168)
    assert codec().runtime.spec_version == 461
    assert len(metadata(BLOCK_MS)) > 386_733


@pytest.mark.parametrize(
    ("name", "pallet", "index"),
    [("SettingWeightsTooFast", 7, 29), ("CommitRevealEnabled", 7, 53), ("CallFiltered", 0, 5)],
)
def test_errors_have_their_numbers(name, pallet, index):
    assert codec().module_error(name) == {"Module": {"index": pallet, "error": [index, 0, 0, 0]}}
    assert codec().runtime.module_error(pallet, index)[0] == name
