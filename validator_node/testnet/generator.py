"""Random manifests from a seed: hard on the network, never unfair.

Fair means (`timeline` rule 2): a quorum can form at the beginning, and from `RECOVERY_S` before the
end until the end. Between, it may be impossible for as long as the events last, and often is.
Events are proposed at random and taken only if the manifest with them is still fair, so that each
manifest is fair by construction.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from challenges import examples
from validator_node.testnet.manifest import Manifest, ManifestError, Miners
from validator_node.testnet.timeline import check_timeline, quorum_since

RECOVERY_S = 20.0
"""A quorum can form for at least so long before the end."""
FIRST_EVENT_S = 4.0
SIZES = (4, 4, 4, 4, 5, 5, 7)
PROPOSALS = 60
"""Tries to find the wanted number of events."""


def generate(seed: int, duration: float | None = None) -> Manifest:
    """Return the manifest of a seed; the same for the same arguments.

    `duration` in seconds replaces the generator's own choice; at least 40.
    """
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    validators = rng.choice(SIZES)
    base: dict[str, Any] = {
        "name": f"seed {seed}",
        "seed": seed,
        "validators": validators,
        "stakes": [rng.randint(150, 350) for _ in range(validators)],
        "observers": rng.choice((0, 0, 1)),
        "challenges": rng.choice(((), *((name,) for name in examples.names()))),
        "duration": duration or float(rng.randint(60, 90)),
        "miners": Miners(
            count=rng.randint(1, 2), interval=rng.choice((1.0, 2.0)), per_message=rng.randint(1, 3)
        ),
    }
    if base["duration"] < 2 * RECOVERY_S:
        raise ManifestError(
            f"a random manifest lasts {2 * RECOVERY_S:g} s or more, not {base['duration']:g} s: "
            "set another --duration"
        )
    wanted = rng.randint(3, 7)
    events: list[dict[str, Any]] = []
    for _ in range(PROPOSALS):
        if len(events) == wanted:
            break
        proposal = _propose(rng, base)
        if _fair({**base, "event": [*events, proposal]}) is not None:
            events.append(proposal)
    events.sort(key=lambda event: float(event["at"]))
    found = _fair({**base, "event": events})
    assert found is not None  # the order of the list does not matter
    return found


def is_fair(manifest: Manifest) -> bool:
    """Return whether the manifest leaves a quorum time to recover."""
    since = quorum_since(manifest)
    return since is not None and since <= manifest.duration - RECOVERY_S


def _fair(values: dict[str, Any]) -> Manifest | None:
    try:
        manifest = Manifest(**values)
        check_timeline(manifest)
    except (ValidationError, ManifestError):
        return None  # the proposal does not go with the others
    return manifest if is_fair(manifest) else None


def _propose(rng: random.Random, base: dict[str, Any]) -> dict[str, Any]:
    kind = rng.choice(sorted(_KINDS))
    latest = base["duration"] - RECOVERY_S
    at = round(rng.uniform(FIRST_EVENT_S, latest), 1)
    lasts = round(min(rng.uniform(3.0, 14.0), base["duration"] - at), 1)
    nodes = base["validators"] + base["observers"]
    event = {"at": at, "kind": kind, **_KINDS[kind](rng, nodes)}
    if kind not in _LASTING:
        event["for"] = max(lasts, 1.0)
    return event


def _one(rng: random.Random, nodes: int) -> dict[str, Any]:
    return {"node": rng.randrange(nodes)}


def _groups(rng: random.Random, nodes: int) -> dict[str, Any]:
    order = rng.sample(range(nodes), nodes)
    cut = rng.randint(1, nodes - 1)
    return {"groups": [sorted(order[:cut]), sorted(order[cut:])]}


def _slow(rng: random.Random, nodes: int) -> dict[str, Any]:
    slowness = {"delay_ms": float(rng.choice((50, 150, 400))), "rate": rng.choice((0, 50_000))}
    if rng.random() < 0.5:
        return {**_one(rng, nodes), **slowness}
    return {"pair": rng.sample(range(nodes), 2), **slowness}


def _skew(rng: random.Random, nodes: int) -> dict[str, Any]:
    return {**_one(rng, nodes), "ms": rng.choice((-1, 1)) * rng.randint(500, 30_000)}


_KINDS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "kill": _one,
    "restart": _one,
    "pause": _one,
    "disconnect": _one,
    "partition": _groups,
    "slow_link": _slow,
    "clock_skew": _skew,
    "join": _one,
    "leave": _one,
    "disk_full": _one,
}
_LASTING = frozenset({"restart", "join", "leave"})
"""Kinds that do not end by themselves."""
