"""What the registry refuses, each error naming what was wrong, where, and what was expected."""

from pathlib import Path


class RegistryError(Exception):
    """Base of every error the registry raises."""


class SpecError(RegistryError):
    """A ``platform.toml`` is unreadable or breaks a rule.

    Attributes:
        path: the file.
        field: the dotted name of the first offending field, or "" when the file as a whole is bad.
    """

    def __init__(self, path: Path, field: str, expectation: str) -> None:
        where = f"{path}: {field}" if field else str(path)
        super().__init__(f"{where}: {expectation}")
        self.path = path
        self.field = field
