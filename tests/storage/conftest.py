from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from tests.storage.journals import Place


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "database", create=True) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "node")
