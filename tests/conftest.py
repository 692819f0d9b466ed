"""What all tests share: no example of Hypothesis is timed, for a busy machine proves nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", parent=settings.default, deadline=None)
settings.load_profile("untimed")
