"""Whether a genesis describes a network that can run: what no single field's bounds can say.

A NEW-VIEW is the longest thing that validators send: a quorum of view changes, each with a tip and
up to W prepared certificates of a quorum. It must fit into one frame, so the more slots may be in
agreement at once, the fewer validators there may be (`most_members`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from consensus.messages import MAX_WINDOW
from protocol.records.genesis import Genesis
from protocol.records.validators import MAX_VALIDATORS

MAX_NEW_VIEW_BYTES = 12_000_000
"""Of honest view changes; a third may hold certificates of everybody, half as long again."""
SIGNATURE_BYTES = 66
"""One signature in a certificate, encoded."""
CERTIFICATE_BYTES = 200
"""A certificate without its signatures: header, view and the bitmap of 256 validators, encoded."""


def most_signers(members: int) -> int:
    """Return the most signers that a smallest quorum of so many validators can have."""
    return 2 * members // 3 + 1


def new_view_bytes(members: int, window: int) -> int:
    """Return the most bytes an honest NEW-VIEW of a quorum can have."""
    signers = most_signers(members)
    certificate = CERTIFICATE_BYTES + signers * SIGNATURE_BYTES
    return signers * ((window + 1) * certificate + CERTIFICATE_BYTES)


def most_members(window: int) -> int:
    """Return how many validators a set may have, so that every NEW-VIEW fits into a frame."""
    members = MAX_VALIDATORS
    while new_view_bytes(members, window) > MAX_NEW_VIEW_BYTES:
        members -= 1
    return members


def why_impossible(genesis: Genesis) -> list[str]:
    """Return every reason why no network can run from a genesis; none for a sound one."""
    return [*_parameters(genesis), *_lists(genesis)]


def _parameters(genesis: Genesis) -> list[str]:
    found, parameters = [], genesis.parameters
    members = len(genesis.validators.members)
    if parameters.window > MAX_WINDOW:
        found.append(f"window is {parameters.window}: at most {MAX_WINDOW}")
    elif members > most_members(parameters.window):
        found.append(
            f"{members} validators with window {parameters.window}: a view change would not fit "
            f"into a frame; at most {most_members(parameters.window)} validators, or a smaller "
            "window"
        )
    if parameters.term < parameters.window:
        found.append(f"term is {parameters.term}: at least the window, {parameters.window}")
    if parameters.max_timeout_ms < parameters.base_timeout_ms:
        found.append(
            f"max_timeout_ms is {parameters.max_timeout_ms}: at least base_timeout_ms, "
            f"{parameters.base_timeout_ms}"
        )
    if genesis.validators.epoch != 0:
        found.append(f"the first validator set is of epoch {genesis.validators.epoch}, not 0")
    if not members:
        found.append("there is no validator")
    if genesis.election.min_members > genesis.election.max_members:
        found.append(
            f"min_members is {genesis.election.min_members}: at most max_members, "
            f"{genesis.election.max_members}"
        )
    return found


def _lists(genesis: Genesis) -> list[str]:
    members = genesis.validators.members
    named: tuple[tuple[str, Iterable[Hashable]], ...] = (
        ("validator's hotkey", (member.hotkey.hex() for member in members)),
        ("consensus key", (member.consensus_key.hex() for member in members)),
        ("neuron's hotkey", (neuron.hotkey.hex() for neuron in genesis.neurons)),
        ("uid", (neuron.uid for neuron in genesis.neurons)),
        ("challenge", (challenge.challenge_id for challenge in genesis.challenges)),
    )
    return [
        f"{what} {value} stands {count} times"
        for what, values in named
        for value, count in Counter(values).items()
        if count > 1
    ]
