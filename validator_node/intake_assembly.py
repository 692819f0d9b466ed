"""Puts the intake of a node together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from validator_node.batch_check import Checker
from validator_node.blobs import BlobFetcher
from validator_node.config import NodeConfig
from validator_node.consensus_driver import ConsensusDriver
from validator_node.intake import Intake
from validator_node.network.network import Network
from validator_node.speaker import Speaker
from validator_node.store import Store


def make_intake(
    config: NodeConfig,
    store: Store,
    checker: Checker,
    speaker: Speaker,
    driver: ConsensusDriver,
    fetcher: BlobFetcher,
    network: Network,
    *,
    validators: Callable[[], Iterable[str]],
    pending: Callable[[], int],
) -> Intake:
    """Return the intake of a running node; the callables are `Intake`'s."""
    return Intake(
        store,
        checker,
        speaker,
        me=driver.engine.core.me,
        now=time.monotonic,
        submissions_per_second=config.submissions_per_second,
        max_pending=config.max_pending,
        fetcher=fetcher,
        validators=validators,
        is_asked_for=driver.pool.asks_for,
        pending=pending,
        pause_s=lambda: network.pressure.pause_s,
    )
