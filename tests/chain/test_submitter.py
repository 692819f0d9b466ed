"""The submitter over the real embedded chain, with faults put between them, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.embedded import EmbeddedChain
from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.submitter import Included, ReadBack, Refused, Undecided, WeightSubmitter, stagger_blocks
from tests.chain.support import ALICE, BLOCK_MS, BOB, OTHER, STRANGER, VECTOR, genesis

SUBMITTER = WeightSubmitter(poll_s=0.5)


def block_now() -> int:
    return int(trio.current_time() * 1000) // BLOCK_MS


class FaultyChain(EmbeddedChain):
    """An embedded chain on trio's clock, without threads, that fails as it is told.

    `before` and `after` are called with the number of the weights call (from 1) around it; they
    may raise, or wait. `sent` lists the blocks at which calls arrived.
    """

    def __init__(self, directory: Path, **changes: Any) -> None:
        # The test's clock starts at an arbitrary time, so the chain does too.
        start_ms = int(trio.current_time() * 1000) - 12 * BLOCK_MS
        super().__init__(
            genesis(start_ms=start_ms, **changes),
            directory,
            lambda: int(trio.current_time() * 1000),
            in_thread=False,
        )
        self.sent: list[int] = []
        self.heads = 0
        self.before: Callable[[int], Any] = _nothing
        self.after: Callable[[int], Any] = _nothing
        self.on_head: Callable[[int], Any] = _nothing

    async def head(self):
        self.heads += 1
        await self.on_head(self.heads)
        return await super().head()

    async def set_weights(self, *arguments: Any, **more: Any):
        self.sent.append((await super().head()).number)
        number = len(self.sent)
        await self.before(number)
        submitted = await super().set_weights(*arguments, **more)
        await self.after(number)
        return submitted


async def _nothing(_: int) -> None:
    await trio.lowlevel.checkpoint()


def failing(times: int, code: Code) -> Callable[[int], Any]:
    async def fail(number: int) -> None:
        await trio.lowlevel.checkpoint()
        if number <= times:
            raise ChainError(code, "as the test told")

    return fail


@pytest.mark.trio
async def test_a_vector_is_submitted_and_read_back(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(12, already=False)
    assert await chain.weights_of(0) == VECTOR


@pytest.mark.trio
async def test_what_the_chain_holds_since_the_epoch_closed_is_not_sent_again(
    tmp_path, autojump_clock
):
    chain = FaultyChain(tmp_path)
    await SUBMITTER.submit(chain, ALICE, VECTOR)
    await trio.sleep(7)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(12, already=True)
    assert chain.sent == [12]


@pytest.mark.trio
async def test_the_same_vector_of_an_earlier_epoch_is_sent_again(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    await SUBMITTER.submit(chain, ALICE, VECTOR)
    await trio.sleep(10)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(22, already=False)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR, since_block=23) == ReadBack(
        27, already=False
    )
    assert chain.sent == [12, 22, 27]


@pytest.mark.trio
async def test_a_rate_limited_hotkey_waits_for_its_block_and_sends_once(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    await SUBMITTER.submit(chain, ALICE, OTHER)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(17, already=False)
    assert chain.sent == [12, 17]


@pytest.mark.trio
async def test_a_chain_that_says_too_fast_against_the_preflight_is_not_hammered(
    tmp_path, autojump_clock
):
    chain = FaultyChain(tmp_path)
    chain.before = failing(99, Code.SETTING_WEIGHTS_TOO_FAST)
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR)
    assert isinstance(outcome, Undecided)
    assert outcome.code is Code.SETTING_WEIGHTS_TOO_FAST
    assert chain.sent == [12, 13, 15, 19, 27]


@pytest.mark.trio
async def test_a_call_that_may_pass_is_tried_again_after_growing_pauses(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    chain.before = failing(3, Code.UNREACHABLE)
    submitter = WeightSubmitter(poll_s=2.0, landing_blocks=1)
    assert await submitter.submit(chain, ALICE, VECTOR) == ReadBack(26, already=False)
    assert chain.sent == [12, 14, 18, 26]


@pytest.mark.trio
async def test_a_call_of_unknown_fate_is_not_repeated_before_it_can_no_longer_land(
    tmp_path, autojump_clock
):
    chain = FaultyChain(tmp_path)
    chain.before = failing(2, Code.UNREACHABLE)
    submitter = WeightSubmitter(poll_s=0.5, landing_blocks=16)
    assert await submitter.submit(chain, ALICE, VECTOR) == ReadBack(46, already=False)
    assert chain.sent == [12, 29, 46]


@pytest.mark.trio
async def test_a_call_that_landed_after_its_deadline_is_found_not_repeated(
    tmp_path, autojump_clock
):
    chain = FaultyChain(tmp_path)

    async def hang(_: int) -> None:
        await trio.sleep_forever()

    chain.after = hang
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR)
    assert outcome == ReadBack(12, already=False)
    assert chain.sent == [12]


@pytest.mark.trio
async def test_a_hung_chain_ends_in_a_named_deadline(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)

    async def hang(_: int) -> None:
        await trio.sleep_forever()

    chain.on_head = hang
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR)
    assert isinstance(outcome, Undecided)
    assert outcome.code is Code.DEADLINE
    assert "took longer than 30.0 s" in outcome.reason
    assert chain.sent == []


@pytest.mark.trio
async def test_a_head_that_stands_still_ends_in_the_overall_deadline(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path, weights_rate_limit=100)
    await SUBMITTER.submit(chain, ALICE, OTHER)
    frozen = await chain.head()

    async def head():
        await trio.lowlevel.checkpoint()
        return frozen

    chain.head = head
    started = trio.current_time()
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR)
    assert isinstance(outcome, Undecided)
    assert "not settled within 3600.0 s" in outcome.reason
    assert trio.current_time() - started == pytest.approx(3600)


@pytest.mark.trio
async def test_reads_that_fail_for_a_while_are_repeated(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    chain.on_head = failing(4, Code.UNREACHABLE)
    assert isinstance(await SUBMITTER.submit(chain, ALICE, VECTOR), ReadBack)
    chain = FaultyChain(tmp_path / "other")
    chain.on_head = failing(99, Code.UNREACHABLE)
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR)
    assert isinstance(outcome, Undecided)
    assert (outcome.code, chain.heads) == (Code.UNREACHABLE, 5)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("key", "vector", "code"),
    [
        (ALICE, (), Code.EMPTY_VECTOR),
        (ALICE, ((0, 1),), Code.NOT_NORMAL_FORM),
        (ALICE, ((9, 65535),), Code.UID_VEC_CONTAIN_INVALID_ONE),
        (STRANGER, VECTOR, Code.HOTKEY_NOT_REGISTERED_IN_SUBNET),
    ],
)
async def test_what_is_refused_is_never_sent(tmp_path, autojump_clock, key, vector, code):
    chain = FaultyChain(tmp_path)
    outcome = await SUBMITTER.submit(chain, key, vector)
    assert isinstance(outcome, Refused)
    assert outcome.code is code
    assert chain.sent == []
    assert await chain.history() == ()


@pytest.mark.trio
async def test_a_refusal_of_the_chain_itself_is_final(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    chain.before = failing(99, Code.NEURON_NO_VALIDATOR_PERMIT)
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR)
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.NEURON_NO_VALIDATOR_PERMIT
    assert chain.sent == [12]


@pytest.mark.trio
async def test_inclusion_without_application_is_told_apart(tmp_path, autojump_clock):
    """As with commit-reveal: the call is included, the stored weights do not change."""
    chain = FaultyChain(tmp_path)

    async def weights_of(uid: int, mechanism: int = 0):
        await trio.lowlevel.checkpoint()
        return OTHER

    chain.weights_of = weights_of
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == Included(12, OTHER)
    assert chain.sent == [12]
    assert (await chain.head()).number == 12 + SUBMITTER.read_back_blocks


@pytest.mark.trio
async def test_a_vector_that_is_superseded_while_it_waits_is_not_sent(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    await SUBMITTER.submit(chain, ALICE, OTHER)
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR, until_block=17)
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.EXPIRED
    assert chain.sent == [12]


@pytest.mark.trio
@pytest.mark.parametrize(("tempo", "window"), [(64, 8), (400, 8), (32, 4), (13, 1)])
async def test_submitters_keep_to_their_staggered_blocks(tmp_path, autojump_clock, tempo, window):
    chain = FaultyChain(tmp_path, tempo=tempo)
    submitter = WeightSubmitter(poll_s=0.5, stagger_window=8)
    since = 13
    expected = {}
    seen = {}

    async def run(key):
        outcome = await submitter.submit(chain, key, VECTOR, seed=b"epoch 1", since_block=since)
        seen[key.public_key] = outcome.block

    async with trio.open_nursery() as nursery:
        for key in (ALICE, BOB):
            delay = stagger_blocks(b"epoch 1", key.public_key, window)
            expected[key.public_key] = since + delay
            nursery.start_soon(run, key)
    assert seen == expected


@pytest.mark.trio
async def test_each_mechanism_is_submitted_on_its_own(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path, mechanisms=2)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(12, already=False)
    outcome = await SUBMITTER.submit(chain, ALICE, VECTOR, mechanism=1)
    assert outcome == ReadBack(12, already=False)
    assert len(chain.sent) == 2


@pytest.mark.trio
async def test_over_the_embedded_chain_with_its_threads_and_real_time(subnet):
    subnet.clock.to_block(12)
    chain = subnet.chain()
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(12, already=False)
    assert await SUBMITTER.submit(chain, ALICE, VECTOR) == ReadBack(12, already=True)


@pytest.mark.trio
async def test_a_cancelled_caller_is_cancelled_and_gets_no_outcome(tmp_path, autojump_clock):
    chain = FaultyChain(tmp_path)
    await SUBMITTER.submit(chain, ALICE, OTHER)
    with trio.move_on_after(2) as scope:
        await SUBMITTER.submit(chain, ALICE, VECTOR)
        pytest.fail("an outcome in spite of the cancellation")
    assert scope.cancelled_caught
