"""Reads traces in the Informal Trace Format (the ADR 015 of Apalache), as Quint writes them."""

from __future__ import annotations

import json
from pathlib import Path


class Record(dict):
    """A record of the model: hashable, fields as attributes."""

    def __getattr__(self, name: str):
        return self[name]

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))


def decode(value):
    """Return an ITF value as int, str, bool, tuple, frozenset, dict (a map) or `Record`."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "#bigint" in value:
        return int(value["#bigint"])
    if "#set" in value:
        return frozenset(decode(item) for item in value["#set"])
    if "#tup" in value:
        return tuple(decode(item) for item in value["#tup"])
    if "#map" in value:
        return {decode(key): decode(item) for key, item in value["#map"]}
    return Record({name: decode(item) for name, item in value.items()})


def load(path: Path) -> list[Record]:
    """Return the states of a trace; variables lose the instance's prefix (`equal::pbft::`)."""
    states = json.loads(path.read_text(encoding="utf-8"))["states"]
    return [
        Record(
            {
                name.rsplit("::", 1)[-1]: decode(value)
                for name, value in state.items()
                if not name.startswith(("#", "mbt::"))
            }
        )
        for state in states
    ]
