"""The submitter over the real SDK and the development chain."""

from __future__ import annotations

from pathlib import Path

import trio

from chain.bittensor import Deadlines
from chain.devchain.server import open_devchain
from chain.submission_state import Stage
from chain.submitter import Committed, ReadBack, WeightSubmitter
from chain.submitter_epoch import Alert, Certified, EpochOrder, EpochSubmitter
from tests.chain.bittensor.support import Signer, adapter
from tests.chain.devchain.support import ADDRESSES, KEYS, NEWCOMER, run_config, subnet
from validator_node.submission_book import SubmissionBook

VECTORS = (((0, 21845), (2, 65535)), ((1, 65535), (3, 3)))
PATIENCE = WeightSubmitter(poll_s=0.1, landing_blocks=100, read_back_blocks=20)
DEADLINE_S = 60
BLOCK_MS = 50


def order(since_block: int = 0) -> EpochOrder:
    certified = tuple(
        Certified(mechanism, vector, tuple(KEYS[uid] for uid, _ in vector))
        for mechanism, vector in enumerate(VECTORS)
    )
    return EpochOrder(1, since_block, certified)


def node(chain, folder: Path, who: int, alerts: list[Alert]) -> EpochSubmitter:
    signer = Signer(who)
    book = SubmissionBook.open(folder, network_id=bytes(32), hotkey=signer.public_key)
    return EpochSubmitter(chain, signer, book, PATIENCE, on_alert=alerts.append)


def test_the_adapter_ends_a_silent_write_before_the_submitter_does():
    adapter_s = Deadlines()
    longest_s = adapter_s.connect_s + adapter_s.write_s + adapter_s.grace_s
    assert WeightSubmitter().inclusion_deadline_s > longest_s


async def test_two_mechanisms_are_submitted_and_read_back_through_the_sdk(tmp_path: Path):
    alerts: list[Alert] = []
    run = run_config(block_time_ms=BLOCK_MS)
    async with (
        open_devchain(subnet(mechanisms=2, tempo=1000), run) as chain,
        adapter(tmp_path / "sdk", chain) as bittensor,
    ):
        chain.call("dev_replace", 3, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
        chain.call("dev_jump", 2)  # makes it final: what is not is not seen
        with trio.fail_after(DEADLINE_S):
            outcomes = await node(bittensor, tmp_path / "book", 1, alerts).submit(order())
            again = await node(bittensor, tmp_path / "book", 1, alerts).submit(order())
        state = chain.ledger.head.state
        nonce = chain.ledger.next_nonce(KEYS[1])
    assert all(isinstance(one, ReadBack) and not one.already for one in outcomes.values())
    assert all(isinstance(one, ReadBack) and one.already for one in again.values())
    assert state.weights_of(1, 0) == VECTORS[0]
    assert state.weights_of(1, 1) == ((1, 65535),)
    assert [(one.name, one.mechanism) for one in alerts] == [("uids_reused", 1)]
    assert nonce == 2


async def test_a_commit_of_the_sdk_whose_reveal_is_lost_is_told(tmp_path: Path):
    """The SDK seals for a drand round to come, which this chain never learns."""
    alerts: list[Alert] = []
    rules = {"commit_reveal": True, "mechanisms": 2, "tempo": 1000}
    async with (
        open_devchain(subnet(**rules), run_config(block_time_ms=BLOCK_MS)) as chain,
        adapter(tmp_path / "sdk", chain) as bittensor,
    ):
        submitter = node(bittensor, tmp_path / "book", 1, alerts)
        with trio.fail_after(DEADLINE_S):
            outcomes = await submitter.submit(order())
            assert all(isinstance(one, Committed) for one in outcomes.values())
            assert submitter.pending_reveals == 2
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submitter.watch_reveals)
                chain.call("dev_jump", 2100)
                while submitter.pending_reveals:  # noqa: ASYNC110 - a watcher tells nobody
                    await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
    assert submitter.steps[Stage.REVEAL_LOST] == 2
    assert sorted((one.name, one.mechanism) for one in alerts) == [
        ("reveal_lost", 0),
        ("reveal_lost", 1),
    ]
