"""The figures of the chain and the weights."""

from __future__ import annotations

from pathlib import Path

from chain.bittensor import ChainStatus
from chain.watchdog import Health
from tests.validator_node.weight_site import Site
from validator_node.gauges import STALL_S, chain_gauges, chain_labelled, why_unwell

STATUS = ChainStatus(
    health=Health.HEALTHY,
    endpoint="ws://127.0.0.1:9944",
    head=7,
    head_age_s=2.5,
    threads=2,
    hung_threads=1,
    in_flight=3,
    last_reason="",
    counts={},
)


async def test_the_connection_to_the_chain_is_shown(tmp_path: Path) -> None:
    site = Site(tmp_path)
    service = site.make_service(lambda: STATUS)
    figures = {name: value() for name, (_, value) in chain_gauges(service).items()}
    assert figures == {
        "chain_block": 0,
        "chain_head_age_s": 2.5,
        "reveals_pending": 0,
        "weights_epoch": -1,
        "chain_threads": 2,
        "chain_hung_threads": 1,
        "chain_in_flight": 3,
    }
    labelled = {name: dict(values()) for name, (_, _, values) in chain_labelled(service).items()}
    assert labelled == {
        "chain_state": {"healthy": 1.0},
        "chain_endpoint": {"ws://127.0.0.1:9944": 1.0},
    }
    site.close()


async def test_a_chain_without_a_connection_shows_none(tmp_path: Path) -> None:
    site = Site(tmp_path)
    figures = {name: value() for name, (_, value) in chain_gauges(site.service).items()}
    assert (figures["chain_threads"], figures["chain_head_age_s"]) == (0, 0)
    assert [dict(values()) for _, _, values in chain_labelled(site.service).values()] == [{}, {}]
    site.close()


def test_a_node_is_well_while_it_moves_and_votes() -> None:
    assert why_unwell(0.0, None) == why_unwell(STALL_S, "") == ""
    assert why_unwell(STALL_S + 1, "").startswith("nothing has moved for 31 s")
    assert why_unwell(1.0, "no journal") == "this validator only observes: no journal"
