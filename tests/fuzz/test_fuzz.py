"""Every target under mutated and random input: it takes it or raises its documented errors.

The same targets under coverage-guided fuzzing: `python -m tests.fuzz`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import target as fuzz
from tests.fuzz.mutation import BOMBS, mutate
from tests.fuzz.target import (
    Site,
    Target,
    TooLargeInMemoryError,
    TooSlowError,
    attempt,
    attempt_watched,
)
from tests.fuzz.targets import TARGETS

ATTEMPTS = 40


@pytest.fixture(scope="module", params=TARGETS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    site = Site(tmp_path_factory.mktemp(request.param))
    with site.stack:
        yield TARGETS[request.param](site)


def test_valid_input_is_taken(target: Target) -> None:
    taken = [attempt(target, seed) for seed in target.seeds]
    assert any(taken)
    assert all(taken) or target.refuses_seeds


@settings(
    max_examples=ATTEMPTS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_anything_else_is_taken_or_refused(target: Target, data: st.DataObject) -> None:
    if data.draw(st.integers(0, 7)) == 0:
        attempt(target, data.draw(st.binary(max_size=200)))
        return
    seed = data.draw(st.sampled_from(target.seeds))
    attempt(target, mutate(seed, target.seeds, data.draw(st.integers(0, 2**32))))


def test_what_announces_gigabytes_or_nests_costs_little(target: Target) -> None:
    for bomb in BOMBS:
        attempt_watched(target, bomb)
        attempt_watched(target, target.seeds[0][:20] + bomb)


class TestTheWatch:
    """What the tests above rely on."""

    def test_an_undocumented_error_is_seen(self) -> None:
        def run(data: bytes) -> None:
            raise KeyError(data)

        with pytest.raises(KeyError):
            attempt(Target(run, (ValueError,), (b"",)), b"x")
        assert not attempt(Target(run, (LookupError,), (b"",)), b"x")

    def test_a_slow_run_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fuzz, "MAX_RUN_S", 0.01)
        with pytest.raises(TooSlowError, match="1 bytes took"):
            attempt(Target(lambda _: sum(range(3_000_000)), (), (b"",)), b"x")

    def test_a_large_allocation_is_seen(self) -> None:
        size = fuzz.MAX_PEAK_BYTES + 1_000_000
        with pytest.raises(TooLargeInMemoryError, match="1 bytes took 16 MiB"):
            attempt_watched(Target(lambda _: bytes(size) and None, (), (b"",)), b"x")


@pytest.mark.parametrize("protocol", ["/validator/1/log", "/validator/1/handovers"])
def test_an_exception_in_a_request_handler_is_seen(tmp_path: Path, protocol: str) -> None:
    from tests.fuzz.victim import HandlerError, Victim

    async def services(network: Any, nursery: Any) -> None:
        async def fail(peer_id: str, data: bytes) -> bytes:
            raise RuntimeError("a bug in a handler")

        network.serve(protocol, fail, max_request_bytes=64, deadline_s=5.0)

    with Victim(services) as victim:
        assert protocol in victim.protocols()
        with pytest.raises(HandlerError, match=protocol):
            victim.feed(protocol, b"\0\0\0\1x")
        victim.feed(protocol, b"\0\0\0\2x")  # no whole request: the handler is not called
