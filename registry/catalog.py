"""The catalogue of challenges and its changes. Pure: (view, action) -> why it did not apply."""

from __future__ import annotations

from protocol.actions import RegistryChange
from protocol.records.genesis import Genesis
from protocol.view import View
from registry import keys
from registry.access import read, write
from registry.election import write_electorate
from registry.lifecycle import propose


def write_genesis(view: View, genesis: Genesis) -> None:
    """Fill an empty state with what the genesis says."""
    write(view, keys.EPOCH, keys.Progress(epoch=0))
    write(view, keys.TIME, keys.Time(time_ms=genesis.chain.start_ms, seq=0))
    write(view, keys.REGISTRY, keys.RegistryMark(owner=genesis.owner, sequence=0))
    for neuron in genesis.neurons:
        write(view, keys.NEURON + neuron.hotkey, neuron)
    write_electorate(view, genesis)
    for challenge in genesis.challenges:
        write(view, keys.CHALLENGE + challenge.challenge_id.encode(), challenge)


def apply_registry_change(view: View, change: RegistryChange, seq: int) -> str | None:
    """Take in the owner's challenge version in slot `seq`; return why not, or None.

    The signature was checked as part of the batch's validity; here only the state decides.
    """
    mark = read(view, keys.RegistryMark, keys.REGISTRY)
    if mark is None or change.owner != mark.owner:
        return "not_owner"
    if change.content.sequence != mark.sequence + 1:
        return "sequence"
    reason = propose(view, change.content.challenge, seq)
    if reason is not None:
        return reason
    write(
        view, keys.REGISTRY, keys.RegistryMark(owner=mark.owner, sequence=change.content.sequence)
    )
    return None
