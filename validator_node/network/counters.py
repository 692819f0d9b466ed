"""Counts of what the network refused, dropped, reset, charged, banned or got wrong, by reason.

A key is a pair (name, reason).

Rules: names are few and fixed (`NAMES`), reasons are short identifiers of our own and never text
from a peer, so the number of keys stays bounded. The corrections in `upstream/` patch classes that
all networks of a process share: they find the right counters through the object at hand
(`attach`), and fall back to `PROCESS`.
"""

from collections import Counter
from typing import Final

NAMES: Final = ("refused", "dropped", "reset", "errors", "charged", "banned")
_ATTRIBUTE: Final = "_node_counters"


class Counters(Counter[tuple[str, str]]):
    """Plain integers by (name, reason), both strings; missing keys read as 0."""

    def count(self, name: str, reason: str, amount: int = 1) -> None:
        """Add `amount` to the counter `name` for `reason`."""
        self[name, reason] += amount


PROCESS: Final = Counters()
"""Counts that could not be attributed to one network."""


def attach(owner: object, counters: Counters) -> None:
    """Let `counters` receive what corrections count on behalf of `owner`."""
    setattr(owner, _ATTRIBUTE, counters)


def attached(owner: object) -> Counters:
    """Return the counters attached to `owner`, or those of the process."""
    found = getattr(owner, _ATTRIBUTE, None)
    return found if isinstance(found, Counters) else PROCESS
