"""What the owner wants of a challenge: a new version of it, another emission, or its end.

Everything that the network would refuse later is looked at here first: the author's files keep
their rules, the vectors end as they must in this machine's sandbox, and no part is too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from challenges.errors import KitError, MistakeError
from challenges.project import SPEC_NAME, Project, load_project
from challenges.record import canary_vectors, challenge_record
from challenges.runner import Runner
from challenges.vectors import VectorFile, load_vector_file
from protocol.codec import Name, decode, encode, sha256
from protocol.errors import ProtocolError
from protocol.records.canary import MAX_CANARY_BYTES
from protocol.records.challenge import Challenge
from registry.lifecycle import evaluates_alike
from runtime.errors import Fault
from validator_node.errors import NodeError
from validator_node.module_fetcher import MAX_MODULE_BYTES


class ReleaseError(NodeError):
    """The network would not take this in; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """The next state of one challenge, and what it is made of."""

    challenge_id: str
    challenge: Challenge | None = None
    """What shall be active; None retires the challenge."""
    only_emission: bool = False
    """Whether all but the emission must be as it is active now."""
    parts: Mapping[bytes, bytes] = field(default_factory=dict)
    """Module, data and vectors by their hash."""

    def next_state(self, active: Challenge | None) -> Challenge:
        """Return what is to be signed, given the active (or retired) version.

        `active` is a peer's word: of it nothing is signed but what retiring does not look at.

        Raises:
            ReleaseError: the network would not take it in.
        """
        name = self.challenge_id
        if self.challenge is None:
            if active is None or active.challenge_id != name:
                raise ReleaseError(f"challenge {name}: the network has none of this id to retire")
            return msgspec.structs.replace(active, emission=0)
        if active is None or not evaluates_alike(active, self.challenge):
            self._check_version(active, self.challenge)
        if active is not None and active.mechanism != self.challenge.mechanism:
            raise ReleaseError(
                f"challenge {name}: the active version pays through mechanism {active.mechanism}, "
                f"this folder through {self.challenge.mechanism}. A change would move what miners "
                "are paid, and nobody has asked for that"
            )
        return self.challenge

    def _check_version(self, active: Challenge | None, wanted: Challenge) -> None:
        name = self.challenge_id
        if self.only_emission:
            found = "no version" if active is None else f"version {active.version}"
            raise ReleaseError(
                f"challenge {name}: the network has {found}, which is not what this folder holds "
                f"(version {wanted.version}). Name the folder of the active version, or publish "
                "without --emission"
            )
        if active is not None and wanted.version <= active.version:
            raise ReleaseError(
                f"challenge {name}: version {active.version} is active and differs from version "
                f"{wanted.version} of this folder. Raise `version` in {SPEC_NAME} and in "
                "vectors.json"
            )


def is_reached(release: Release, active: Challenge | None) -> bool:
    """Return whether the network has what the owner wants."""
    if release.challenge is None:
        return active is not None and active.emission == 0
    return active == release.challenge


def challenge_id_of(challenge: str) -> str:
    """Return the id that a folder's `platform.toml` states, or else the text itself.

    Raises:
        ReleaseError: it is neither a challenge's folder nor an id.
    """
    path = Path(challenge)
    if path.exists():
        try:
            return load_project(_folder(path)).spec.id
        except KitError as error:
            raise ReleaseError(str(error)) from error
    try:
        decode(Name, encode(challenge))
    except ProtocolError as error:
        raise ReleaseError(
            f"{challenge}: expected a challenge's folder, its {SPEC_NAME}, or its id"
        ) from error
    return challenge


def _folder(path: Path) -> Path:
    return path.parent if path.name == SPEC_NAME else path


def load_release(path: Path, emission: int | None = None) -> Release:
    """Read the challenge in a folder (or beside a `platform.toml`) and make its release.

    Its vectors are run, unless only the `emission` is to be another one.

    Raises:
        ReleaseError: a file breaks a rule, or a vector does not end as it must.
    """
    try:
        return _load(load_project(_folder(path)), emission)
    except KitError as error:
        raise ReleaseError(str(error)) from error
    except Fault as fault:
        raise ReleaseError(
            f"this machine could not evaluate: {fault}. It says nothing about the challenge; try "
            "again, or on another machine"
        ) from fault


def _load(project: Project, emission: int | None) -> Release:
    module, blobs = project.module(), project.blobs()
    read = _checked_vectors if emission is None else _vectors
    vectors = canary_vectors(read(project).vectors)
    challenge = challenge_record(project.spec, sha256(module), blobs, vectors)
    if emission is not None:
        challenge = msgspec.structs.replace(challenge, emission=emission)
    try:
        decode(Challenge, encode(challenge))
    except ProtocolError as error:
        raise ReleaseError(f"{project.spec_path}: the network cannot record it: {error}") from error
    if challenge.emission == 0:
        raise ReleaseError(
            f"{project.spec_path}: emission: found 0, which retires the challenge; expected 1 or "
            "more. Use --retire to end it"
        )
    _check_size(project.vectors_path, vectors, MAX_CANARY_BYTES)
    for key, blob in blobs.items():
        _check_size(project.folder / "data" / "blobs" / key, blob, MAX_MODULE_BYTES)
    parts = {sha256(part): part for part in (module, vectors, *blobs.values())}
    return Release(
        challenge_id=challenge.challenge_id,
        challenge=challenge,
        only_emission=emission is not None,
        parts=parts,
    )


def _vectors(project: Project) -> VectorFile:
    return load_vector_file(project.vectors_path)


def _checked_vectors(project: Project) -> VectorFile:
    """Return the vectors, which end as they must. Raises `MistakeError`, and `Fault`."""
    with Runner(project) as runner:
        file = runner.vectors()
        for result in runner.run_vectors(file.vectors):
            if result.differences:
                raise MistakeError(
                    f"{project.vectors_path}: {result.vector.name}",
                    "another answer of the module",
                    "the one in the file, as every validator would",
                    f"Run `validator-node challenge test {project.folder}`.",
                )
    return file


def _check_size(path: Path, part: bytes, limit: int) -> None:
    if len(part) > limit:
        raise ReleaseError(f"{path}: found {len(part):,} bytes; expected {limit:,} at most")
