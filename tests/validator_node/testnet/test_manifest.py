"""The manifest: what it takes, what it says of what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from validator_node.testnet.manifest import (
    Kill,
    Manifest,
    ManifestError,
    Partition,
    load_manifest,
    manifest_text,
)
from validator_node.testnet.soak import BOUNDS

FULL = """
name = "everything"
validators = 5
stakes = [300, 200]
observers = 1
challenges = ["text_compression"]
duration = 120.0
reach = "dns"

[miners]
body_bytes = 6000
count = 3
interval = 0.5
per_message = 4
skill = [3]

[[event]]
at = 5.0
kind = "kill"
node = 1
for = 10.0

[[event]]
at = 16.0
kind = "pause"
node = 2
for = 2.5

[[event]]
at = 20.0
kind = "partition"
groups = [[0, 1], [2, 3]]

[[event]]
at = 22.0
kind = "slow_link"
pair = [0, 1]
delay_ms = 100.0
rate = 20000
loss = 0.05

[[event]]
at = 30.0
kind = "heal"

[[event]]
at = 31.0
kind = "disconnect"
node = 4
for = 3.0

[[event]]
at = 36.0
kind = "clock_skew"
node = 0
ms = -5000
for = 9.0

[[event]]
at = 46.0
kind = "move"
node = 1

[[event]]
at = 50.0
kind = "disk_full"
node = 0
for = 9.0

[[event]]
at = 61.0
kind = "join"
node = 5

[[event]]
at = 62.0
kind = "leave"
node = 4

[[event]]
at = 80.0
kind = "restart"
node = 3
wipe = false
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "manifest.toml"
    path.write_text(text)
    return path


def test_every_kind_of_event_is_read(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, FULL))
    assert manifest.nodes == 6
    assert [manifest.stake(node) for node in range(6)] == [300, 200, 300, 200, 300, 0]
    assert manifest.starts_later == {5}
    assert manifest.miners.skill == (3,)
    assert len({event.kind for event in manifest.event}) == len(manifest.event) == 12
    kill, cut = manifest.event[0], manifest.event[2]
    assert isinstance(kill, Kill)
    assert (kill.at, kill.node, kill.lasts) == (5.0, 1, 10.0)
    assert isinstance(cut, Partition)
    assert cut.groups == ((0, 1), (2, 3))


def test_the_written_text_reads_as_the_same_manifest(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, FULL))
    assert load_manifest(written(tmp_path, manifest_text(manifest))) == manifest


def test_an_empty_file_is_a_quiet_trial(tmp_path: Path) -> None:
    assert load_manifest(written(tmp_path, "")) == Manifest()


EVENT = '[[event]]\nat = 3.0\nkind = "{kind}"\n{rest}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("validators = 0", "validators: Input should be greater than or equal to 1"),
        ("speed = 1", "speed: Extra inputs are not permitted"),
        ('challenges = ["chess"]', "no example is called chess; there are series_forecast"),
        ("[miners]\ncount = 0", "miners.count: Input should be greater than or equal to 1"),
        (EVENT.format(kind="explode", rest=""), "event[0]: Input tag 'explode'"),
        (EVENT.format(kind="pause", rest="node = 1"), "event[0].pause.for: Field required"),
        (EVENT.format(kind="kill", rest="node = 4"), "there is no node 4: the nodes are 0 to 3"),
        (EVENT.format(kind="kill", rest="node = 1\nfor = 58.0"), "it ends at 61 s, after the"),
        (EVENT.format(kind="slow_link", rest="node = 1"), "give delay_ms, rate or loss"),
        (EVENT.format(kind="slow_link", rest="delay_ms = 9"), "give either node or pair"),
        (EVENT.format(kind="partition", rest="groups = [[0], [0, 1]]"), "a node is named twice"),
        (EVENT.format(kind="partition", rest="groups = [[0], [1]]"), "never healed: add a heal"),
        (EVENT.format(kind="join", rest="node = 1") * 2, "at 3 s: node 1 has run already"),
        (EVENT.format(kind="kill", rest="node = 1") * 2, "at 3 s: node 1 is not running"),
        (
            EVENT.format(kind="leave", rest="node = 1") + EVENT.format(kind="leave", rest="node=2"),
            "no quorum can form at the end; then only nodes [0, 3] count",
        ),
        ("validators = = 4", "manifest.toml: Invalid value"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert str(caught.value).startswith(f"manifest {path}: ")
    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        load_manifest(tmp_path / "none.toml")


def test_the_manifests_beside_the_end_to_end_tests_can_be_run() -> None:
    folder = Path(__file__).parents[2] / "end_to_end" / "manifests"
    names = sorted(path.name for path in folder.glob("*.toml"))
    assert {"partition_4_3.toml", "short.toml"} <= set(names)
    for name in names:
        load_manifest(folder / name)


def test_the_documented_manifest_can_be_run_and_shows_every_kind(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "testnet.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    manifest = load_manifest(written(tmp_path, "\n".join(blocks)))
    assert len({event.kind for event in manifest.event}) == len(manifest.event) == 12


def test_the_documented_bounds_are_the_real_ones() -> None:
    text = (Path(__file__).parents[3] / "docs" / "testnet.md").read_text()
    table = text.split("| | slope an hour")[1]
    for bound in BOUNDS.values():
        row = f"| {bound.slope_per_h:g} | {bound.maximum:g} | {bound.noise:g} |"
        assert row in table
