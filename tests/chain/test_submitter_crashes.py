"""A node that dies at any step submits once, and does not forget.

The rate limit is 0, so that the chain would take a second call: only the records prevent it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from chain.interface import WeightVector
from tests.chain.ledger_chain import LedgerChain
from tests.chain.submitter_support import Crash, DyingBook, Node, book, order
from tests.chain.support import OTHER, VECTOR

MOST_STEPS = 40
BY_MECHANISM: list[WeightVector] = [VECTOR, OTHER]


async def run_until_it_dies(
    chain: LedgerChain, folder: Path, at: int, mechanisms: int, *, after: bool
) -> bool:
    """Run a node on `folder`; return whether it died at its `at`-th step."""
    node = Node(chain, DyingBook(book(folder), at, after=after))
    try:
        await node.submitter.submit(order(1, 0, *BY_MECHANISM[:mechanisms]))
    except BaseExceptionGroup as died:
        rest = died.split(Crash)[1]
        assert rest is None
        return True
    return False


async def finished(chain: LedgerChain, folder: Path, mechanisms: int) -> Node:
    """Let a node on `folder` bring its submissions to their end."""
    node = Node(chain, book(folder))
    with trio.fail_after(200):
        await node.submitter.submit(order(1, 0, *BY_MECHANISM[:mechanisms]))
    return node


def check(chain: LedgerChain, node: Node, mechanisms: int, stage: str) -> None:
    assert sorted(mechanism for _, mechanism in chain.sent) == list(range(mechanisms))
    for mechanism in range(mechanisms):
        assert node.stages(mechanism) == {1: stage}
    assert node.raised == []


@pytest.mark.parametrize("commit_reveal", [False, True])
@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_at_every_step(tmp_path: Path, autojump_clock, commit_reveal, after):
    died = True
    for at in range(MOST_STEPS):
        chain = LedgerChain(commit_reveal=commit_reveal, weights_rate_limit=0, mechanisms=2)
        folder = tmp_path / str(at)
        died = await run_until_it_dies(chain, folder, at, 2, after=after)
        node = await finished(chain, folder, 2)
        check(chain, node, 2, "committed" if commit_reveal else "applied")
        if not died:
            assert at == 8, "waiting, sending, included and the end, for two mechanisms"
            break
        if commit_reveal:
            assert len(chain.ledger.head.state.commits) == 2
        else:
            assert await chain.weights_of(0, 0) == VECTOR
            assert await chain.weights_of(0, 1) == OTHER
    assert not died


@pytest.mark.parametrize("after", [False, True])
async def test_a_second_crash_on_the_way_back(tmp_path: Path, autojump_clock, after):
    for first in range(4):
        for second in range(4):
            chain = LedgerChain(weights_rate_limit=0)
            folder = tmp_path / f"{first}-{second}"
            assert await run_until_it_dies(chain, folder, first, 1, after=after)
            await run_until_it_dies(chain, folder, second, 1, after=not after)
            check(chain, await finished(chain, folder, 1), 1, "applied")


async def test_a_crash_in_one_epoch_is_settled_before_the_next_is_sent(
    tmp_path: Path, autojump_clock
):
    """The dead node's call is still in the pool when the next epoch's order comes."""
    chain = LedgerChain(commit_reveal=True, weights_rate_limit=0)

    async def die() -> None:
        await trio.lowlevel.checkpoint()
        raise Crash

    chain.after_sign = die
    with pytest.raises(BaseExceptionGroup):
        await Node(chain, book(tmp_path)).submitter.submit(order(1, 0, OTHER))
    chain.after_sign = trio.lowlevel.checkpoint
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(2, 0))
    assert node.stages() == {1: "committed", 2: "committed"}
    assert [one.block for one in chain.ledger.head.state.commits] == [1, 2]
    blocks = [record.block for record in node.keeper.records(0)]
    assert blocks == [1, 2]
    assert node.raised == []


async def test_with_its_records_lost_a_node_goes_by_what_the_chain_shows(
    tmp_path: Path, autojump_clock
):
    for commit_reveal in (False, True):
        chain = LedgerChain(commit_reveal=commit_reveal, weights_rate_limit=0)
        await Node(chain, book(tmp_path / f"{commit_reveal}")).submitter.submit(order())
        node = Node(chain, book(tmp_path / f"{commit_reveal}-new"))
        await node.submitter.submit(order())
        check(chain, node, 1, "committed" if commit_reveal else "applied")


async def test_nothing_is_sent_that_cannot_be_remembered(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    folder = tmp_path / "book"
    node = Node(chain, book(folder))
    (folder / "0-1.new").mkdir()
    await node.submitter.submit(order())
    assert chain.sent == []
    assert node.raised == [("weights_undecided", 1, 0)]
    assert "0-1.submission" in node.alerts[0].reason
    (folder / "0-1.new").rmdir()
    await node.submitter.submit(order())
    assert (node.stages(), len(chain.sent)) == ({1: "applied"}, 1)
