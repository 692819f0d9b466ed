"""The JSON-RPC methods, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.devchain.admin import _METHODS as ADMIN_METHODS
from chain.devchain.admin import Admin
from chain.devchain.errors import RpcError
from chain.devchain.ledger import hexed
from chain.devchain.rpc import _METHODS, Rpc
from tests.chain.devchain.support import ADDRESSES, NETUID, codec, ledger, signed

SUBNETS = "SubnetInfoRuntimeApi"


def test_blocks_are_found_by_number_and_hash():
    chain = ledger(finality_lag=1)
    chain.jump(4, 0)
    rpc = Rpc(chain, 256)
    third = rpc.call("chain_getBlockHash", [3])
    assert third == rpc.call("chain_getFinalizedHead", [])
    assert rpc.call("chain_getHeader", [third])["number"] == "0x3"
    assert rpc.call("chain_getHead", []) == hexed(chain.head.hash)
    assert rpc.call("chain_getBlockHash", [99]) is None
    assert rpc.call("chain_getBlock", ["0x" + "00" * 32]) is None


def test_a_pruned_state_is_refused_in_a_nodes_words():
    chain = ledger()
    chain.jump(10, 0)
    rpc = Rpc(chain, 4)
    key = hexed(codec().key("SubtensorModule", "Tempo", NETUID))
    assert rpc.call("state_getStorageAt", [key, hexed(chain.hash_at(7))]) == "0x0a00"
    pruned = hexed(chain.hash_at(6))
    with pytest.raises(RpcError, match=f"State already discarded for {pruned}") as caught:
        rpc.call("state_getStorageAt", [key, pruned])
    assert caught.value.code == 4003
    with pytest.raises(RpcError, match="Header was not found"):
        rpc.call("state_getStorageAt", [key, "0x" + "00" * 32])


def test_keys_are_paged_in_order():
    rpc = Rpc(ledger(), 256)
    prefix = hexed(codec().key("SubtensorModule", "Uids", NETUID))
    first = rpc.call("state_getKeysPaged", [prefix, 3, prefix])
    rest = rpc.call("state_getKeysPaged", [prefix, 3, first[-1]])
    assert (len(first), len(rest)) == (3, 2)
    assert sorted(first + rest) == first + rest
    (group,) = rpc.call("state_queryStorageAt", [[*first, prefix]])
    assert [key for key, _value in group["changes"]] == [*first, prefix]
    assert group["changes"][-1][1] is None
    with pytest.raises(RpcError, match="at most 1000"):
        rpc.call("state_getKeysPaged", [prefix, 1001])


def runtime_call(rpc: Rpc, api: str, method: str, params: bytes = b"") -> Any:
    raw = bytes.fromhex(rpc.call("state_call", [f"{api}_{method}", params.hex()])[2:])
    output = codec().runtime.runtime_api_map()[api][method]["output"]
    return codec().runtime.decode(output, raw)


def test_runtime_calls_are_answered_with_their_types():
    rpc = Rpc(ledger(), 256)
    here, elsewhere = NETUID.to_bytes(2, "little"), (9).to_bytes(2, "little")
    graph = runtime_call(rpc, SUBNETS, "get_metagraph", here)
    assert graph["hotkeys"] == ADDRESSES[:5]
    assert (graph["num_uids"], graph["tempo"], graph["owner_hotkey"]) == (5, 10, ADDRESSES[4])
    assert runtime_call(rpc, SUBNETS, "get_metagraph", elsewhere) is None
    assert runtime_call(rpc, SUBNETS, "get_next_epoch_start_block", here) == 10
    assert runtime_call(rpc, "AccountNonceApi", "account_nonce", bytes(32)) == 0
    assert runtime_call(rpc, "TransactionPaymentApi", "query_info")["partial_fee"] == 0
    assert runtime_call(rpc, "Metadata", "metadata_versions") == [15]


@pytest.mark.parametrize(
    ("name", "params"),
    [("Metadata_nonsense", ""), (f"{SUBNETS}_get_metagraph", "0x07"), ("Nonsense", "0x")],
)
def test_an_unknown_runtime_call_is_refused(name, params):
    with pytest.raises(RpcError) as caught:
        Rpc(ledger(), 256).call("state_call", [name, params])
    assert caught.value.code == 4003


def test_an_extrinsic_goes_into_the_pool():
    chain = ledger()
    rpc = Rpc(chain, 256)
    data = hexed(signed(chain, 1))
    assert rpc.call("author_submitExtrinsic", [data]) == hexed(
        chain.pool.in_order()[0].extrinsic.hash
    )
    assert rpc.call("author_pendingExtrinsics", []) == [data]
    assert rpc.call("system_accountNextIndex", [ADDRESSES[1]]) == 1
    with pytest.raises(RpcError, match="-32602"):
        rpc.call("system_accountNextIndex", ["nonsense"])


def test_the_metadata_is_handed_out_in_both_ways():
    rpc = Rpc(ledger(), 256)
    whole = rpc.call("state_getMetadata", [])
    at_version = rpc.call("state_call", ["Metadata_metadata_at_version", "0x0f000000"])
    assert whole == hexed(codec().metadata)
    assert at_version.endswith(whole[2:])
    assert rpc.call("state_call", ["Metadata_metadata_at_version", "0x0e000000"]) == "0x00"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(method=st.sampled_from(sorted(_METHODS)), params=st.lists(JSON, max_size=4))
def test_any_parameters_are_answered_or_refused(method, params):
    try:
        answer = Rpc(ledger(), 256).call(method, params)
    except RpcError:
        return
    assert json.dumps(answer)


@given(method=st.sampled_from(sorted(ADMIN_METHODS)), params=st.lists(JSON, max_size=4))
def test_any_parameters_of_a_knob_are_taken_or_refused(method, params):
    chain = ledger()
    try:
        answer, _notices = Admin(chain, lambda: 1).call(method, params)
    except RpcError:
        assert chain.head is chain.genesis
    else:
        assert json.dumps(answer)
