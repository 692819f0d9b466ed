"""The generator: repeatable, fair, and hard enough."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validator_node.testnet.generator import RECOVERY_S, generate
from validator_node.testnet.manifest import Join, ManifestError, manifest_text, parse_manifest
from validator_node.testnet.timeline import worlds_of

seeds = st.integers(min_value=0, max_value=2**32)


@settings(max_examples=150)
@given(seeds, st.sampled_from([None, 40.0, 120.0]))
def test_a_quorum_can_form_again_in_time(seed: int, duration: float | None) -> None:
    manifest = generate(seed, duration)
    total = sum(manifest.stake(node) for node in range(manifest.validators))
    healthy_from = 0.0
    for at, world in worlds_of(manifest):
        able = set(world.running) - world.paused - world.skewed - world.full - world.wiped
        best = max(sum(manifest.stake(node) for node in side & able) for side in world.sides())
        if 3 * best <= 2 * total:
            healthy_from = float("inf")
        elif healthy_from == float("inf"):
            healthy_from = at
    assert healthy_from <= manifest.duration - RECOVERY_S


@settings(max_examples=50)
@given(seeds)
def test_a_seed_gives_the_same_manifest_and_its_file_replays_it(seed: int) -> None:
    manifest = generate(seed)
    assert generate(seed) == manifest
    assert parse_manifest(tomllib.loads(manifest_text(manifest)), "text") == manifest


def test_the_manifests_are_hard_and_of_all_kinds() -> None:
    manifests = [generate(seed) for seed in range(200)]
    kinds = {event.kind for manifest in manifests for event in manifest.event}
    assert kinds >= {
        *("kill", "restart", "pause", "disconnect", "partition", "slow_link", "clock_skew"),
        *("join", "leave", "disk_full"),
    }
    without_quorum = sum(
        any(not world.has_quorum() for _, world in worlds_of(manifest)) for manifest in manifests
    )
    assert 60 <= without_quorum < 200
    assert all(len(manifest.event) >= 3 for manifest in manifests)
    joining = [e for m in manifests for e in m.event if isinstance(e, Join)]
    assert any(event.node >= 4 for event in joining)


def test_too_short_a_trial_is_refused() -> None:
    with pytest.raises(ManifestError, match="lasts 40 s or more, not 20 s"):
        generate(1, 20.0)
