"""What tests of the intake share: validator 0's speaker and intake over a real store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from protocol.records.statement import Statement
from tests.support import World
from validator_node.batch_check import Checker
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.intake import Intake
from validator_node.overtaken import is_overtaken
from validator_node.speaker import Speaker
from validator_node.store import Store


def speaker_of(
    world: World,
    store: Store,
    say: Callable[[Statement], Awaitable[None]],
    executed_counter: Callable[[], int],
) -> Speaker:
    """Return validator 0's speaker, whose statements go to `say`."""
    return Speaker(
        world.voters,
        0,
        world.keys[0],
        say=say,
        executed_counter=executed_counter,
        is_settled=lambda item: is_overtaken(store.tree.view(), item, 0),
        clock_ms=lambda: 0,
        first_counter=1,
    )


def intake_of(
    world: World,
    store: Store,
    speaker: Speaker,
    *,
    rate: float,
    max_pending: int = 100,
    fetcher: BlobFetcher | None = None,
    validators: Callable[[], Iterable[str]] = list,
) -> Intake:
    """Return validator 0's intake, which takes `rate` submissions a second from a hotkey."""
    return Intake(
        store,
        Checker(world.voters, world.network_id),
        speaker,
        me=0,
        now=trio.current_time,
        submissions_per_second=rate,
        max_pending=max_pending,
        fetcher=fetcher,
        validators=validators,
    )
