from __future__ import annotations

from pathlib import Path

import pytest

from tests.chain.support import Subnet


@pytest.fixture
def subnet(tmp_path: Path) -> Subnet:
    return Subnet(tmp_path / "chain")
