import pytest

from protocol.view import DictView
from registry import keys
from registry.access import challenge, challenges, current_epoch, neuron, read
from registry.catalog import apply_registry_change
from registry.submissions import why_inadmissible
from tests.registry.support import activate
from tests.support import OWNER, START_MS, STRANGER, World, make_challenge

WORLD = World()


@pytest.fixture
def view() -> DictView:
    return WORLD.state()


def active(view: DictView) -> list[tuple[str, int]]:
    return [(entry.challenge_id, entry.version) for entry in challenges(view)]


def test_the_genesis_fills_the_state(view: DictView) -> None:
    assert current_epoch(view) == 0
    assert read(view, keys.Progress, keys.EPOCH) == keys.Progress(epoch=0)
    assert read(view, keys.Time, keys.TIME) == keys.Time(time_ms=START_MS, seq=0)
    assert active(view) == [("alpha", 1), ("beta", 1)]
    for entry in WORLD.genesis.neurons:
        assert neuron(view, entry.hotkey) == entry
    assert neuron(view, STRANGER.public_key) is None
    mark = keys.RegistryMark(owner=OWNER.public_key, sequence=0)
    assert read(view, keys.RegistryMark, keys.REGISTRY) == mark


def test_the_owner_adds_and_replaces_challenges(view: DictView) -> None:
    gamma = make_challenge("gamma")
    assert apply_registry_change(view, WORLD.change(1, gamma), 1) is None
    activate(view, gamma)
    assert challenge(view, "gamma") == gamma
    newer = make_challenge("alpha", version=2)
    assert apply_registry_change(view, WORLD.change(2, newer), 1) is None
    activate(view, newer)
    assert challenge(view, "alpha") == newer
    assert active(view) == [("alpha", 2), ("beta", 1), ("gamma", 1)]


def test_emission_zero_retires_a_challenge(view: DictView) -> None:
    retired = make_challenge("alpha", emission=0)
    assert apply_registry_change(view, WORLD.change(1, retired), 1) is None
    assert challenge(view, "alpha") is None
    assert active(view) == [("beta", 1)]
    assert why_inadmissible(view, WORLD.submission()) == "unknown_challenge"
    back = make_challenge("alpha", version=2)
    assert apply_registry_change(view, WORLD.change(2, back), 1) is None
    activate(view, back)
    assert active(view) == [("alpha", 2), ("beta", 1)]


@pytest.mark.parametrize("sequence", [1, 3, 4, 100])
def test_a_sequence_is_used_once_and_in_order(view: DictView, sequence: int) -> None:
    assert apply_registry_change(view, WORLD.change(1, make_challenge("gamma")), 1) is None
    before = dict(view.entries)
    change = WORLD.change(sequence, make_challenge("delta"))
    assert apply_registry_change(view, change, 1) == "sequence"
    assert view.entries == before
    assert apply_registry_change(view, WORLD.change(2, make_challenge("delta")), 1) is None


def test_nobody_else_changes_the_catalogue(view: DictView) -> None:
    before = dict(view.entries)
    change = WORLD.change(1, make_challenge("gamma"), owner=STRANGER)
    assert apply_registry_change(view, change, 1) == "not_owner"
    assert apply_registry_change(DictView(), change, 1) == "not_owner"
    assert view.entries == before
