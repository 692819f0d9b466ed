"""The example challenges: complete, small, and played by the test network's miners.

Each sub-folder is one challenge: ``platform.toml``, ``source/``, ``data/``, the built
``module.wasm``, ``vectors.json``, ``README.md`` for miners, and ``miner.py``, which plays it.
"""

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from challenges.project import load_project
from challenges.record import canary_vectors
from challenges.vectors import load_vectors
from registry.spec import ChallengeSpec

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Example:
    """One example challenge, loaded.

    Attributes:
        name: the folder's name, equal to the spec's id.
        folder: where its files lie.
        spec: the parsed ``platform.toml``.
        module: the WebAssembly module's bytes.
        module_hash: sha256 of `module`, 32 bytes.
        blobs: the data blobs by the policy's ``data_keys``.
        vectors_path: the test vectors, read by `challenges.vectors.load_vectors`.
        vectors: the same, as `challenges.record.canary_vectors` encodes them.
    """

    name: str
    folder: Path
    spec: ChallengeSpec
    module: bytes
    module_hash: bytes
    blobs: dict[str, bytes]
    vectors_path: Path
    vectors: bytes


def names() -> tuple[str, ...]:
    """Return the examples' names, sorted."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/platform.toml")))


def _folder(name: str) -> Path:
    if name not in names():
        raise KeyError(f"no example is called {name!r}; there are {', '.join(names())}")
    return FOLDER / name


def load(name: str) -> Example:
    """Read an example from its folder.

    Raises:
        KeyError: there is no such example.
        MistakeError: its ``platform.toml`` is not valid, or its module is not the pinned one.
    """
    project = load_project(_folder(name))
    module = project.module()
    return Example(
        name=name,
        folder=project.folder,
        spec=project.spec,
        module=module,
        module_hash=hashlib.sha256(module).digest(),
        blobs=project.blobs(),
        vectors_path=project.vectors_path,
        vectors=canary_vectors(load_vectors(project.vectors_path)),
    )


def payload(name: str, skill: int, attempt: int) -> bytes:
    """Make what a miner of the given skill (0..3) submits at its given attempt (from 0).

    The same arguments give the same bytes; other attempts give other, equally valid bytes.

    Raises:
        KeyError: there is no such example.
        ValueError: the skill or the attempt is out of range.
    """
    _folder(name)
    if not 0 <= skill <= 3:
        raise ValueError(f"a skill of 0 to 3 was expected, not {skill}")
    if attempt < 0:
        raise ValueError(f"an attempt of 0 or more was expected, not {attempt}")
    miner = import_module(f"{__name__}.{name}.miner")
    return cast("bytes", miner.payload(skill, attempt))
