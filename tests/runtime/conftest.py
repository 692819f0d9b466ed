from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made
