"""Epochs of several mechanisms, and epochs without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.preflight import Ready, Wait
from chain.submitter import Order, ReadBack, Refused, Superseded, Undecided
from chain.submitter_epoch import AlertName
from tests.chain.devchain.support import ADDRESSES, NEWCOMER
from tests.chain.ledger_chain import LedgerChain
from tests.chain.submitter_support import HOLDERS, PATIENCE, Node, book, order
from tests.chain.support import ALICE, OTHER, VECTOR


def test_the_documentation_lists_every_alert():
    page = (Path(__file__).parents[2] / "docs" / "chain.md").read_text()
    assert [name for name in AlertName if f"| `{name}` |" not in page] == []


async def test_each_mechanism_has_its_own_vector_and_its_own_call(tmp_path: Path, autojump_clock):
    chain = LedgerChain(mechanisms=3)
    node = Node(chain, book(tmp_path))
    outcomes = await node.submitter.submit(order(1, 0, VECTOR, OTHER, VECTOR))
    assert sorted(outcomes) == [0, 1, 2]
    assert [await chain.weights_of(0, mechanism) for mechanism in range(3)] == [
        VECTOR,
        OTHER,
        VECTOR,
    ]
    assert sorted(mechanism for _, mechanism in chain.sent) == [0, 1, 2]
    assert node.submitter.outcomes == {one: (1, outcomes[one]) for one in range(3)}


async def test_a_mechanism_that_fails_does_not_stop_the_others(tmp_path: Path, autojump_clock):
    chain = LedgerChain(mechanisms=2)
    node = Node(chain, book(tmp_path))
    outcomes = await node.submitter.submit(order(1, 0, (), VECTOR, OTHER))
    assert isinstance(outcomes[0], Refused)
    assert isinstance(outcomes[1], ReadBack)
    assert isinstance(outcomes[2], Refused)
    assert outcomes[2].code is Code.MECHANISM_DOES_NOT_EXIST
    assert sorted(node.raised) == [("no_weights", 1, 0), ("weights_refused", 1, 2)]
    assert await chain.weights_of(0, 1) == VECTOR


async def test_a_mechanism_whose_calls_hang_delays_the_others_and_no_more(
    tmp_path: Path, autojump_clock
):
    class Hanging(LedgerChain):
        async def set_weights(self, signer, vector, *, mechanism=0, version_key=0):
            if mechanism == 0:
                raise ChainError(Code.UNREACHABLE, "as the test told")
            return await super().set_weights(
                signer, vector, mechanism=mechanism, version_key=version_key
            )

    chain = Hanging(mechanisms=2)
    node = Node(chain, book(tmp_path))
    outcomes = await node.submitter.submit(order(1, 0, VECTOR, OTHER))
    assert isinstance(outcomes[0], Undecided)
    assert isinstance(outcomes[1], ReadBack)
    assert node.raised == [("weights_undecided", 1, 0)]
    assert node.alerts[0].code is Code.UNREACHABLE


async def test_an_epoch_without_weights_repeats_the_last_certified_ones_if_told(
    tmp_path: Path, autojump_clock
):
    chain = LedgerChain()
    node = Node(chain, book(tmp_path), on_no_weights="last_certified")
    await node.submitter.submit(order(1, 0))
    await node.submitter.submit(order(2, 5, OTHER))
    assert await node.submitter.submit(order(3, 15, ())) == {0: ReadBack(16, already=False)}
    assert await node.submitter.submit(order(4, 25, ())) == {0: ReadBack(26, already=False)}
    assert await chain.weights_of(0) == OTHER
    assert node.raised == [("no_weights", 3, 0), ("no_weights", 4, 0)]
    assert "certified weights of epoch 2 are sent in their place" in node.alerts[1].reason
    assert len(chain.sent) == 4


async def test_the_last_certified_weights_leave_out_who_has_gone(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    node = Node(chain, book(tmp_path), on_no_weights="last_certified")
    await node.submitter.submit(order(1, 0))
    chain.admin("dev_replace", 2, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
    await node.submitter.submit(order(2, 15, ()))
    assert await chain.weights_of(0) == ((0, 65535),)
    assert [name for name, _, _ in node.raised] == ["no_weights", "uids_reused"]


async def test_without_any_certified_weights_nothing_is_sent(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    node = Node(chain, book(tmp_path), on_no_weights="last_certified")
    outcome = (await node.submitter.submit(order(1, 0, ())))[0]
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.EMPTY_VECTOR
    assert (chain.sent, node.raised) == ([], [("no_weights", 1, 0)])


async def test_an_older_epoch_than_the_newest_is_not_begun_any_more(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(2, 0))
    assert await node.submitter.submit(order(1, 0, OTHER)) == {0: Superseded(1)}
    assert await node.submitter.submit(order(2, 0)) == {0: ReadBack(1, already=True)}
    assert len(chain.sent) == 1


async def test_weights_of_unknown_holders_are_sent_whole(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.admin("dev_replace", 2, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(1, 0, known=False))
    assert await chain.weights_of(0) == VECTOR


@pytest.mark.parametrize("limit", [0, 30])
async def test_a_preview_says_what_would_be_done_and_does_nothing(
    tmp_path: Path, autojump_clock, limit
):
    chain = LedgerChain(weights_rate_limit=limit)
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(1, 0, OTHER))
    calls = len(chain.sent)
    seen = await PATIENCE.preview(chain, ALICE.public_key, Order(2, VECTOR, 1, holders=HOLDERS))
    assert isinstance(seen, Wait if limit else Ready)
    assert len(chain.sent) == calls
    assert node.stages() == {1: "applied"}


async def test_what_is_undecided_is_tried_again_until_it_is_not(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.down_until = trio.current_time() + 400
    node = Node(chain, book(tmp_path))
    assert isinstance((await node.submitter.settle(order()))[0], ReadBack)
    assert {name for name, _, _ in node.raised} == {"weights_undecided"}
    assert len(chain.sent) == 1


async def test_what_is_refused_is_not_tried_again_while_another_is_undecided(
    tmp_path: Path, autojump_clock
):
    class Hanging(LedgerChain):
        async def set_weights(self, signer, vector, *, mechanism=0, version_key=0):
            if mechanism == 0 and trio.current_time() < until:
                raise ChainError(Code.UNREACHABLE, "as the test told")
            return await super().set_weights(
                signer, vector, mechanism=mechanism, version_key=version_key
            )

    chain = Hanging(mechanisms=3)
    until = trio.current_time() + 200
    node = Node(chain, book(tmp_path))
    outcomes = await node.submitter.settle(order(1, 0, VECTOR, (), OTHER))
    assert [type(outcomes[one]) for one in range(3)] == [ReadBack, Refused, ReadBack]
    assert node.raised.count(("weights_undecided", 1, 0)) > 1
    assert node.raised.count(("no_weights", 1, 1)) == 1
    assert node.submitter.outcomes == {one: (1, outcomes[one]) for one in range(3)}
    assert [mechanism for _, mechanism in chain.sent] == [2, 0]


async def test_an_abstaining_node_that_is_told_otherwise_goes_on(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(1, 0))
    await node.submitter.submit(order(2, 15, ()))
    assert node.stages() == {1: "applied", 2: "refused"}
    node = Node(chain, book(tmp_path), on_no_weights="last_certified")
    assert isinstance((await node.submitter.submit(order(2, 15, ())))[0], ReadBack)
    assert [record.source_epoch for record in node.keeper.records(0)] == [1, 1]
