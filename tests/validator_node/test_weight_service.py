"""One validator with its real driver, database and chain: epochs end, weights arrive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chain.errors import ChainError, ChainErrorCode
from chain.interface import Metagraph, Neuron, SubnetRules
from chain.preflight import Refused
from chain.submission_state import SubmissionRecord
from chain.submitter import ReadBack
from registry import keys as state_keys
from registry.access import neuron, read
from tests.support import STRANGER
from tests.validator_node.weight_site import TEMPO, Change, Closed, running, until


async def test_the_epoch_ends_with_what_the_chain_shows(tmp_path: Path) -> None:
    def change(graph: Metagraph) -> Metagraph:
        first, *others = graph.neurons
        return replace(
            graph,
            neurons=(replace(first, stake=77), *others[:-1]),
            owner_hotkey=STRANGER.public_key,
        )

    async with running(tmp_path, change) as site:
        await until(lambda: site.driver.engine.core.voters.epoch >= 1)
        store, view = site.store, site.store.tree.view()
        assert [member.weight for member in site.driver.engine.core.voters.members] == [77]
        assert store.voters.members == site.driver.engine.core.voters.members
        mark = read(view, state_keys.RegistryMark, state_keys.REGISTRY)
        assert mark is not None
        assert mark.owner == STRANGER.public_key
        assert neuron(view, site.world.miners[-1].public_key) is None
        await until(lambda: site.driver.engine.core.voters.epoch >= 3)
        assert site.driver.no_ops.get("other_metagraph") is None


async def test_weights_arrive_on_the_chain(tmp_path: Path) -> None:
    async with running(tmp_path, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.submitted_epoch >= 0)
        epoch, outcome = site.outcomes[0]
        assert isinstance(outcome, ReadBack)
        assert epoch == 0
        assert await site.chain.weights_of(0) == ((site.world.uid(0), 65535),)


async def test_a_uid_registered_anew_gets_nothing_and_an_empty_vector_is_not_sent(
    tmp_path: Path,
) -> None:
    def change(graph: Metagraph) -> Metagraph:
        uid = 1
        neurons = [replace(one, hotkey=STRANGER.public_key) if one.uid == uid else one
                   for one in graph.neurons]  # fmt: skip
        return replace(graph, neurons=tuple(neurons))

    async with running(tmp_path, change, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.alerts["no_weights"] > 0)
        weights = site.store.weights(0)
        assert weights is not None
        assert [one.reason for one in weights.masked] == ["uid_reused"]
        alerts = site.service.alerts
        assert alerts["masked_uid_reused"] == 1
        assert alerts["unpaid_no_scores"] >= 2
        assert await site.chain.weights_of(0) == ()


async def test_a_hotkey_that_lost_its_registration_says_so(tmp_path: Path) -> None:
    def change(graph: Metagraph) -> Metagraph:
        return replace(graph, neurons=graph.neurons[1:])

    async with running(tmp_path, change, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.alerts["not_registered"] > 0)
        assert site.outcomes == {}
        now = read(site.store.tree.view(), state_keys.Electorate, state_keys.VOTERS)
        assert now is not None
        assert now.reason == "too_few_candidates"
        assert site.service.alerts["set_kept_too_few_candidates"] > 0


@pytest.mark.parametrize("mechanisms", [2])
async def test_every_mechanism_is_submitted_or_named(tmp_path: Path, mechanisms: int) -> None:
    rules = SubnetRules(mechanisms=mechanisms)
    change: Change = lambda graph: replace(graph, rules=rules)  # noqa: E731
    async with running(tmp_path, change, last_block=TEMPO + 6) as site:
        await site.earn()
        await until(lambda: site.service.alerts["no_weights"] > 0)
        await until(lambda: site.service.submitted_epoch >= 0)
        assert isinstance(site.outcomes[0][1], ReadBack)
        weights = site.store.weights(0)
        assert weights is not None
        assert [one.reason for one in weights.mechanisms] == ["", "no_weights"]


async def test_a_metagraph_that_fits_into_no_batch_is_an_alert_and_the_epoch_goes_on(
    tmp_path: Path,
) -> None:
    def change(graph: Metagraph) -> Metagraph:
        crowd = [Neuron(uid, uid.to_bytes(32), 0, False, 0) for uid in range(10, 2010)]
        return replace(graph, neurons=(*graph.neurons, *crowd), rules=SubnetRules(mechanisms=16))

    async with running(tmp_path, change) as site:
        await until(lambda: site.service.alerts["metagraph_form"] > 1)
        assert site.store.epoch == 0


async def test_weights_of_an_epoch_that_the_chain_has_left_wait_for_newer_ones(
    tmp_path: Path,
) -> None:
    closed = Closed(tmp_path)
    closed.certify()
    closed.clock.block = 2 * TEMPO + 1
    async with closed.running() as service:
        await until(lambda: service.block > 2 * TEMPO)
        await closed.clock.settled()
        assert closed.site.outcomes == {}
        assert await closed.site.chain.history() == ()
        closed.clock.block = 2 * TEMPO + TEMPO // 2
        await until(lambda: service.submitted_epoch == 0)
        assert isinstance(closed.site.outcomes[0][1], ReadBack)


async def test_weights_that_are_not_certified_wait_after_a_restart_too(tmp_path: Path) -> None:
    closed = Closed(tmp_path)
    async with closed.running() as service:
        await until(lambda: service.block > 0)
        await closed.clock.settled()
        assert closed.site.outcomes == {}
        closed.certify()
        await until(lambda: service.submitted_epoch == 0)


async def test_refused_weights_are_not_carried(tmp_path: Path) -> None:
    def change(graph: Metagraph) -> Metagraph:
        first, *others = graph.neurons
        return replace(graph, neurons=(replace(first, validator_permit=False), *others))

    closed = Closed(tmp_path)
    closed.certify()
    closed.site.chain.change = change
    async with closed.running() as service:
        await until(lambda: service.alerts["permit_lost"] > 0 and 0 in closed.site.outcomes)
        await closed.clock.settled()
        assert isinstance(closed.site.outcomes[0][1], Refused)
        assert service.submitted_epoch == -1


async def test_a_registration_that_ended_while_the_node_was_down_is_an_alert(
    tmp_path: Path,
) -> None:
    closed = Closed(tmp_path, neurons=1)
    closed.certify()
    record = SubmissionRecord(epoch=0, mechanism=0, source_epoch=0, since_block=0, vector=((1, 1),))
    await closed.site.book.save(record)
    closed.site.service = closed.site.make_service()
    async with closed.running() as service:
        await until(lambda: service.alerts["not_registered"] == 1)


async def test_an_epoch_that_does_not_end_is_an_alert_once(tmp_path: Path) -> None:
    closed = Closed(tmp_path, closed=False)
    async with closed.running() as service:
        await until(lambda: service.block > TEMPO)
        await closed.clock.settled()
        assert service.alerts["epoch_not_ended"] == 0
        closed.clock.block = 2 * TEMPO + 1
        await until(lambda: service.alerts["epoch_not_ended"] > 0)
        await closed.clock.settled()
        assert service.alerts == {"epoch_not_ended": 1}


async def test_an_epoch_whose_first_block_is_gone_is_an_alert_once_too(tmp_path: Path) -> None:
    def change(_graph: Metagraph) -> Metagraph:
        raise ChainError(ChainErrorCode.UNKNOWN_BLOCK, "discarded")

    closed = Closed(tmp_path, closed=False)
    closed.site.chain.change = change
    async with closed.running() as service:
        await until(lambda: service.alerts["chain_unknown_block"] > 0)
        closed.clock.block = 2 * TEMPO + 1
        await until(lambda: service.alerts["epoch_not_ended"] > 0)
        await closed.clock.settled()
        assert service.alerts["epoch_not_ended"] == 1


async def test_trouble_with_the_chain_is_counted_by_its_name(tmp_path: Path) -> None:
    def change(_graph: Metagraph) -> Metagraph:
        raise ChainError(ChainErrorCode.UNKNOWN_BLOCK, "discarded")

    closed = Closed(tmp_path, closed=False)
    closed.site.chain.change = change
    async with closed.running() as service:
        await until(lambda: service.alerts["chain_unknown_block"] > 1)
        assert set(service.alerts) == {"chain_unknown_block"}
