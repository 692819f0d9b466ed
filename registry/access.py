"""Typed reading and writing of the replicated state."""

from __future__ import annotations

from typing import TypeVar

from protocol.codec import Record, decode, encode
from protocol.records.challenge import Challenge
from protocol.records.genesis import Neuron
from protocol.view import View
from registry import keys

R = TypeVar("R", bound=Record)


def read(view: View, kind: type[R], key: bytes) -> R | None:
    """Return the record under `key`, or None."""
    data = view.get(key)
    return None if data is None else decode(kind, data)


def write(view: View, key: bytes, record: Record) -> None:
    """Set the record under `key`."""
    view.put(key, encode(record))


def current_epoch(view: View) -> int:
    """Return the epoch in which results count now."""
    progress = read(view, keys.Progress, keys.EPOCH)
    return progress.epoch if progress else 0


def neuron(view: View, hotkey: bytes) -> Neuron | None:
    """Return the registered neuron of `hotkey`, or None."""
    return read(view, Neuron, keys.NEURON + hotkey)


def challenge(view: View, challenge_id: str) -> Challenge | None:
    """Return the active version of a challenge; None if unknown or retired."""
    found = read(view, Challenge, keys.CHALLENGE + challenge_id.encode())
    return found if found is not None and found.emission > 0 else None


def challenges(view: View) -> list[Challenge]:
    """Return the active challenges, by id."""
    found = [decode(Challenge, data) for _, data in view.items(keys.CHALLENGE)]
    return [entry for entry in found if entry.emission > 0]
