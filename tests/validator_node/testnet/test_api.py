"""The runner as a client: against a real libp2p node that answers as validators do."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import trio

from protocol.codec import encode
from validator_node.network.network import NetworkConfig, open_network
from validator_node.queries import RECEIPT_PROTOCOL, STATUS_PROTOCOL, NodeStatus, ReceiptReply
from validator_node.testnet.api import STATES, open_api
from validator_node.testnet.invariants import Fate
from validator_node.testnet.layout import ValidatorSite

DEADLINE_S = 30.0
STATUS = NodeStatus(network_id=b"n" * 32, epoch=1, height=7, chain_hash=b"c" * 32, view=0)


def test_every_state_of_a_submission_has_its_rank() -> None:
    assert set(STATES) == set(get_args(get_type_hints(ReceiptReply)["state"]))


async def receipt(_: str, submission_id: bytes) -> bytes:
    if submission_id == b"\xaa":
        return encode(ReceiptReply(state="refused", reason="expired", receipt=b""))
    if submission_id == b"\xbb":
        return encode(ReceiptReply(state="pending", reason="", receipt=b""))
    return b"no reply at all"


async def status(_: str, __: bytes) -> bytes:
    return encode(STATUS)


async def test_a_node_is_asked_and_an_absent_one_is_none(tmp_path: Path) -> None:
    config = NetworkConfig(seed=b"s" * 32, listen_host="127.0.0.1", listen_port=0)
    with trio.fail_after(DEADLINE_S):
        async with open_network(config) as node:
            node.serve(STATUS_PROTOCOL, status, max_request_bytes=64, deadline_s=5)
            node.serve(RECEIPT_PROTOCOL, receipt, max_request_bytes=64, deadline_s=5)
            here = ValidatorSite(0, tmp_path, node.addresses[0], 0)
            absent = ValidatorSite(1, tmp_path, here.address[:-4] + "gone", 0)
            async with open_api("127.0.0.1", [here]) as api:
                while await api.status(here) is None:
                    await trio.lowlevel.checkpoint()  # until it is connected
                assert await api.status(here) == STATUS
                before = api.unanswered
                assert await api.status(absent) is None
                assert api.unanswered == before + 1
                assert await api.fates([absent, here], ["aa", "bb", "cc"]) == {
                    "aa": Fate("refused", "expired"),
                    "bb": Fate("pending"),
                    "cc": Fate("unknown"),
                }
