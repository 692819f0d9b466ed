"""What goes wrong on a live chain: each drill ends in a stated stage, alert and message.

The chain is the development chain's ledger; where a drill is about time, so is its clock.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.submission_state import Stage
from chain.submitter import Committed, ReadBack, Refused, WeightSubmitter
from tests.chain.devchain.support import ADDRESSES, NEWCOMER
from tests.chain.ledger_chain import LedgerChain
from tests.chain.submitter_support import PATIENCE, Crash, Node, book, order
from tests.chain.support import OTHER, VECTOR


async def reach(node: Node, epoch: int, stage: Stage, within_s: float = 200) -> None:
    """Follow the reveals until the record of `epoch` is at `stage`."""
    with trio.fail_after(within_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.submitter.watch_reveals)
            while node.stages()[epoch] != stage:  # noqa: ASYNC110 - a watcher tells nobody
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()


async def test_rate_limited(tmp_path: Path, autojump_clock):
    chain = LedgerChain(weights_rate_limit=30)
    node = Node(chain, book(tmp_path))
    assert await node.submitter.submit(order(1, 0, OTHER)) == {0: ReadBack(1, already=False)}
    assert await node.submitter.submit(order(2, 5)) == {0: ReadBack(32, already=False)}
    assert chain.sent == [(0, 0), (31, 0)]
    assert node.raised == []
    assert node.submitter.steps[Stage.SENDING] == 2
    assert node.submitter.waits == {"rate_limit": 1}


async def test_rate_limited_beyond_the_end_of_the_vector(tmp_path: Path, autojump_clock):
    chain = LedgerChain(weights_rate_limit=30)
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(1, 0, OTHER))
    outcome = (await node.submitter.submit(order(2, 5, until_block=20)))[0]
    assert isinstance(outcome, Refused)
    assert node.stages() == {1: "applied", 2: "refused"}
    assert node.raised == [("weights_expired", 2, 0)]
    assert node.alerts[0].reason.startswith("at block 1 of epoch 0 the earliest block is 31")
    assert "lower the subnet's rate limit" in node.alerts[0].advice
    assert len(chain.sent) == 1


async def test_permit_lost(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.admin("dev_permit", ADDRESSES[0], False)
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order()))[0]
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.NEURON_NO_VALIDATOR_PERMIT
    assert (node.stages(), node.raised) == ({1: "refused"}, [("permit_lost", 1, 0)])
    assert "uid 0 has no validator permit at block 1" in node.alerts[0].reason
    assert node.alerts[0].advice.endswith("add stake.")
    assert chain.sent == []


async def test_permit_lost_between_preflight_and_inclusion(tmp_path: Path, autojump_clock):
    chain = LedgerChain()

    async def lose() -> None:
        await trio.lowlevel.checkpoint()
        chain.admin("dev_permit", ADDRESSES[0], False)  # before the calls of the block it makes

    chain.after_sign = lose
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order()))[0]
    assert outcome == Refused(
        Code.NEURON_NO_VALIDATOR_PERMIT, "NeuronNoValidatorPermit: in block 1"
    )
    assert (node.stages(), node.raised) == ({1: "refused"}, [("permit_lost", 1, 0)])
    assert len(chain.sent) == 1


async def test_hotkey_deregistered(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.admin("dev_deregister", ADDRESSES[0])
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order(1, 0, OTHER)))[0]
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.HOTKEY_NOT_REGISTERED_IN_SUBNET
    assert (node.stages(), node.raised) == ({1: "refused"}, [("hotkey_deregistered", 1, 0)])
    assert "is not registered in subnet 7" in node.alerts[0].reason
    assert "register it again" in node.alerts[0].advice
    assert chain.sent == []


async def test_a_refused_submission_goes_on_when_its_cause_is_gone(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.admin("dev_permit", ADDRESSES[0], False)
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order())
    chain.admin("dev_permit", ADDRESSES[0], True)
    assert await node.submitter.submit(order()) == {0: ReadBack(3, already=False)}
    assert node.stages() == {1: "applied"}


async def test_uid_re_registered_between_evaluation_and_submission(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.admin("dev_replace", 2, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
    node = Node(chain, book(tmp_path))
    assert await node.submitter.submit(order()) == {0: ReadBack(2, already=False)}
    assert await chain.weights_of(0) == ((0, 65535),)
    assert (node.stages(), node.raised) == ({1: "applied"}, [("uids_reused", 1, 0)])
    assert node.alerts[0].reason.endswith("changed hands since their evaluation: uid 2")


async def test_every_uid_re_registered(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    chain.admin("dev_replace", 1, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order(1, 0, OTHER)))[0]
    assert isinstance(outcome, Refused)
    assert (node.stages(), node.raised) == ({1: "refused"}, [("no_weights", 1, 0)])
    assert "so many of the 1 uids have changed hands" in node.alerts[0].reason
    assert chain.sent == []


async def test_what_a_re_registered_uid_leaves_is_sent_within_the_chains_limits(
    tmp_path: Path, autojump_clock
):
    chain = LedgerChain(min_allowed_weights=3, max_weight_limit=30000)
    certified = ((0, 65535), (1, 65535), (2, 65535))
    chain.admin("dev_replace", 2, ADDRESSES[NEWCOMER], ADDRESSES[NEWCOMER])
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order(1, 0, certified)))[0]
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.EMPTY_VECTOR
    assert "too few for the largest weight that the subnet allows" in outcome.reason
    chain.admin("dev_rule", "max_weight_limit", 32768)
    assert await node.submitter.submit(order(1, 0, certified)) == {0: ReadBack(3, already=False)}
    assert await chain.weights_of(0) == ((0, 65535), (1, 65535), (3, 1))


async def test_ten_unrevealed_commits_are_waited_for_until_the_next_epoch(
    tmp_path: Path, autojump_clock
):
    class Full(LedgerChain):
        async def set_weights(self, signer, vector, *, mechanism=0, version_key=0):
            number = (await self.head()).number
            if number >= 20:
                return await super().set_weights(
                    signer, vector, mechanism=mechanism, version_key=version_key
                )
            self.sent.append((number, mechanism))
            raise ChainError(Code.TOO_MANY_UNREVEALED_COMMITS, "as the test told")

    chain = Full(commit_reveal=True)
    await trio.sleep(3)
    next_epoch = (await chain.epoch_status(3)).next_epoch_block
    node = Node(chain, book(tmp_path))
    assert isinstance((await node.submitter.submit(order()))[0], Committed)
    assert next_epoch >= 20
    assert chain.sent == [(3, 0), (next_epoch, 0)]


async def test_a_version_key_that_the_subnet_raises_is_followed(tmp_path: Path, autojump_clock):
    keys: list[int] = []

    class Listening(LedgerChain):
        async def set_weights(self, signer, vector, *, mechanism=0, version_key=0):
            keys.append(version_key)
            return await super().set_weights(
                signer, vector, mechanism=mechanism, version_key=version_key
            )

    chain = Listening(version_key=3)
    node = Node(chain, book(tmp_path))
    assert isinstance((await node.submitter.submit(order(1, 0, OTHER)))[0], ReadBack)
    chain.admin("dev_rule", "version_key", 8)
    assert isinstance((await node.submitter.submit(order(2, 5)))[0], ReadBack)
    outcome = (await node.submitter.submit(replace(order(3, 15), version_key=7)))[0]
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.INCORRECT_WEIGHT_VERSION_KEY
    assert keys == [3, 8]


async def test_a_commit_is_revealed_and_read_back(tmp_path: Path, autojump_clock):
    chain = LedgerChain(commit_reveal=True)
    chain.reveal()
    node = Node(chain, book(tmp_path))
    assert await node.submitter.submit(order()) == {0: Committed(2, already=False)}
    assert await chain.weights_of(0) == ()
    assert node.submitter.pending_reveals == 1
    await reach(node, 1, Stage.REVEALED)
    assert node.submitter.pending_reveals == 0
    assert await chain.weights_of(0) == VECTOR
    assert (await chain.head()).number >= 20
    assert node.raised == []
    assert len(chain.sent) == 1


async def test_commit_included_but_reveal_lost(tmp_path: Path, autojump_clock):
    chain = LedgerChain(commit_reveal=True)
    node = Node(chain, book(tmp_path))
    assert await node.submitter.submit(order()) == {0: Committed(1, already=False)}
    chain.admin("dev_set", "drop_reveals", True)
    await reach(node, 1, Stage.REVEAL_LOST)
    assert await chain.weights_of(0) == ()
    assert node.raised == [("reveal_lost", 1, 0)]
    assert node.alerts[0].reason.startswith("the commit of block 1 is gone, its 2 weights are not")
    assert len(chain.sent) == 1


async def test_commits_of_two_epochs_are_followed_at_once(tmp_path: Path, autojump_clock):
    chain = LedgerChain(commit_reveal=True)
    node = Node(chain, book(tmp_path))
    assert await node.submitter.submit(order(1, 0, OTHER)) == {0: Committed(1, already=False)}
    assert await node.submitter.submit(order(2, 5)) == {0: Committed(7, already=False)}
    chain.admin("dev_set", "drop_reveals", True)
    await reach(node, 2, Stage.REVEAL_LOST)
    assert node.stages() == {1: "reveal_lost", 2: "reveal_lost"}


async def test_a_lost_reveal_is_found_after_a_restart(tmp_path: Path, autojump_clock):
    chain = LedgerChain(commit_reveal=True)
    await Node(chain, book(tmp_path)).submitter.submit(order())
    chain.admin("dev_set", "drop_reveals", True)
    await trio.sleep(60)
    node = Node(chain, book(tmp_path))
    await reach(node, 1, Stage.REVEAL_LOST)
    assert node.raised == [("reveal_lost", 1, 0)]


@pytest.mark.parametrize("commit_reveal", [False, True])
async def test_crash_between_sign_and_inclusion(
    tmp_path: Path, autojump_clock, commit_reveal: bool
):
    """The call is in the pool when the node dies, and lands while it is away."""
    chain = LedgerChain(commit_reveal=commit_reveal, weights_rate_limit=0)

    async def die() -> None:
        await trio.lowlevel.checkpoint()
        raise Crash

    chain.after_sign = die
    node = Node(chain, book(tmp_path))
    with pytest.raises(BaseExceptionGroup) as caught:
        await node.submitter.submit(order())
    assert caught.group_contains(Crash)
    assert node.stages() == {1: "sending"}
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order()))[0]
    wanted = Committed(1, already=True) if commit_reveal else ReadBack(1, already=True)
    assert outcome == wanted
    assert chain.sent == [(0, 0)]
    assert node.raised == []


async def test_crash_between_sign_and_inclusion_of_a_call_that_is_lost(
    tmp_path: Path, autojump_clock
):
    chain = LedgerChain(weights_rate_limit=0)
    chain.admin("dev_set", "swallow", 1)

    async def die() -> None:
        await trio.lowlevel.checkpoint()
        raise Crash

    chain.after_sign = die
    with pytest.raises(BaseExceptionGroup):
        await Node(chain, book(tmp_path)).submitter.submit(order())
    chain.after_sign = trio.lowlevel.checkpoint
    node = Node(chain, book(tmp_path))
    landing = PATIENCE.landing_blocks
    assert await node.submitter.submit(order()) == {0: ReadBack(landing + 2, already=False)}
    assert chain.sent == [(0, 0), (landing + 1, 0)]


async def test_empty_vector(tmp_path: Path, autojump_clock):
    chain = LedgerChain()
    node = Node(chain, book(tmp_path))
    outcome = (await node.submitter.submit(order(1, 0, ())))[0]
    assert isinstance(outcome, Refused)
    assert (node.stages(), node.raised) == ({1: "refused"}, [("no_weights", 1, 0)])
    assert "nothing is sent in their place" in node.alerts[0].reason
    assert chain.sent == []
    assert chain.ledger.final.state.weights == ()


async def test_superseded_before_it_was_sent(tmp_path: Path, autojump_clock):
    chain = LedgerChain(weights_rate_limit=30)
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(1, 0, OTHER))
    with trio.move_on_after(5) as scope:
        await node.submitter.submit(order(2, 1))
    assert scope.cancelled_caught
    assert await node.submitter.submit(order(3, 5)) == {0: ReadBack(32, already=False)}
    assert node.stages() == {1: "applied", 2: "superseded", 3: "applied"}
    assert node.raised == [("weights_superseded", 2, 0)]


async def test_an_endpoint_that_is_down_is_an_alert_and_no_crash(tmp_path: Path, autojump_clock):
    class Down(LedgerChain):
        async def head(self):
            await trio.sleep_forever()

    node = Node(Down(), book(tmp_path), patience=WeightSubmitter(poll_s=0.5, call_deadline_s=5))
    await node.submitter.submit(order())
    assert (node.stages(), node.raised) == ({1: "waiting"}, [("weights_undecided", 1, 0)])
    assert node.alerts[0].code is Code.DEADLINE


async def test_the_same_weights_of_the_next_epoch_are_committed_again(
    tmp_path: Path, autojump_clock
):
    """What the chain stores is the last epoch's, however late its commit came."""
    chain = LedgerChain(commit_reveal=True)
    chain.reveal()
    node = Node(chain, book(tmp_path))
    await node.submitter.submit(order(1, 0))
    await reach(node, 1, Stage.REVEALED)
    outcome = (await node.submitter.submit(order(2, 0)))[0]
    assert isinstance(outcome, Committed)
    assert node.stages() == {1: "revealed", 2: "committed"}
    assert len(chain.sent) == 2
