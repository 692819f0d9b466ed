from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _the_environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter points the SDK to its cache folder for the whole process."""
    monkeypatch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", "")
