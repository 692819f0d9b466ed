"""Which modules' bounds are broken without being asked for, and which tests must notice."""

from __future__ import annotations

from pathlib import Path

MODULES = (
    "registry/election.py",
    "registry/epochs.py",
    "registry/pending.py",
    "registry/pruning.py",
    "registry/submissions.py",
    "chain/weights.py",
    "validator_node/execution.py",
    "consensus/validators.py",
    "consensus/certificate.py",
    "consensus/checkpoints.py",
    "consensus/succession.py",
)
"""What execution and agreement rest on."""

_MORE = {
    "registry/submissions.py": ["tests/registry/test_submission_scores.py"],
    "consensus/validators.py": ["tests/consensus/test_epoch_spans.py"],
    "consensus/certificate.py": ["tests/consensus/test_epoch_spans.py"],
    "consensus/checkpoints.py": ["tests/consensus/test_epochs.py"],
    "consensus/succession.py": [
        "tests/consensus/test_epochs.py",
        "tests/consensus/test_succession_bounds.py",
    ],
}
"""Test files beside the one that mirrors the module."""


def tests_of(path: str) -> list[str]:
    """Return a module's test files: `tests/x/test_y.py` for `x/y.py`, and what `_MORE` adds."""
    module = Path(path)
    mirrored = Path("tests") / module.parent / f"test_{module.name}"
    return [mirrored.as_posix(), *_MORE.get(path, [])]
