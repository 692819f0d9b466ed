"""What the owner's command finds wrong before anything is signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from challenges.project import Project
from protocol.codec import decode, sha256
from protocol.records.canary import CanaryVectors
from tests.challenges.folders import GOOD, wat_project
from tests.makers import replaced
from validator_node.owner.release import (
    Release,
    ReleaseError,
    challenge_id_of,
    is_reached,
    load_release,
)

OUTPUT = {"score": 5, "valid": True, "message": "", "metrics": {}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A challenge that scores 5 for everything."""
    made = wat_project(tmp_path, GOOD)
    write_vectors(made)
    return made


def write_vectors(project: Project, **changes: object) -> None:
    vector = {"name": "any", "submission": "text:x", "expected": "ok", "output": OUTPUT | changes}
    file = {"challenge": "written", "version": 1, "vectors": [vector]}
    project.vectors_path.write_text(json.dumps(file))


def edit(project: Project, old: str, new: str) -> None:
    text = project.spec_path.read_text()
    assert old in text
    project.spec_path.write_text(text.replace(old, new))


def test_a_folder_becomes_a_release_with_all_its_parts(project: Project) -> None:
    release = load_release(project.folder)
    assert release == load_release(project.spec_path)
    challenge = release.challenge
    assert challenge is not None
    assert (challenge.challenge_id, challenge.version, challenge.emission) == ("written", 1, 1)
    assert set(release.parts) == {challenge.module_hash, challenge.vectors}
    assert all(sha256(part) == digest for digest, part in release.parts.items())
    assert [v.name for v in decode(CanaryVectors, release.parts[challenge.vectors]).vectors] == [
        "any"
    ]
    assert challenge_id_of(str(project.folder)) == challenge_id_of("written") == "written"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "version = 2", "vectors of 'written' version 1"),
        ("emission = 1 ", "emission = 0 ", "Use --retire"),
        ("module_sha256 = ", "module_sha256 = '' #", "challenge build"),
        ("target = 700", "".join(f't{n} = "{"x" * 1000}"\n' for n in range(20)), "cannot record"),
    ],
)
def test_a_mistake_in_the_spec_is_told(project: Project, old: str, new: str, words: str) -> None:
    edit(project, old, new)
    with pytest.raises(ReleaseError, match=words):
        load_release(project.folder)


def test_vectors_that_differ_are_not_published(project: Project) -> None:
    write_vectors(project, score=6)
    with pytest.raises(ReleaseError, match=r"any.*challenge test"):
        load_release(project.folder)


def test_what_is_neither_a_folder_nor_an_id_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="expected a challenge's folder"):
        challenge_id_of("no/such folder")
    with pytest.raises(ReleaseError, match="spec"):
        load_release(tmp_path)


def test_another_version_needs_a_higher_number(project: Project) -> None:
    release = load_release(project.folder)
    wanted = release.challenge
    assert wanted is not None
    older = replaced(wanted, version=0, module_hash=bytes(32))
    assert release.next_state(None) == release.next_state(older) == wanted
    with pytest.raises(ReleaseError, match="Raise `version`"):
        release.next_state(replaced(wanted, module_hash=bytes(32)))
    assert release.next_state(replaced(wanted, emission=0)) == wanted
    assert is_reached(release, wanted)
    assert not is_reached(release, replaced(wanted, emission=2))


def test_an_emission_is_changed_only_of_what_is_active(project: Project) -> None:
    """A node that lies about the active version cannot have it signed."""
    release = load_release(project.folder, emission=7)
    wanted = release.challenge
    assert wanted is not None
    assert wanted.emission == 7
    assert release.next_state(replaced(wanted, emission=1)) == wanted
    for active in (None, replaced(wanted, module_hash=bytes(32))):
        with pytest.raises(ReleaseError, match="which is not what this folder holds"):
            release.next_state(active)


def test_nobodys_pay_moves_to_another_mechanism_unasked(project: Project) -> None:
    release = load_release(project.folder, emission=7)
    assert release.challenge is not None
    with pytest.raises(ReleaseError, match="pays through mechanism 1, this folder through 0"):
        release.next_state(replaced(release.challenge, mechanism=1))


def test_only_the_named_challenge_is_retired(project: Project) -> None:
    active = load_release(project.folder).challenge
    assert active is not None
    retire = Release(challenge_id="written")
    assert retire.next_state(active) == replaced(active, emission=0)
    assert is_reached(retire, replaced(active, emission=0))
    for other in (None, replaced(active, challenge_id="other")):
        with pytest.raises(ReleaseError, match="none of this id"):
            retire.next_state(other)
