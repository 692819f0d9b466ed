"""A second opinion on a finished network, with code of its own.

It opens a validator's LevelDB with plyvel and reads raw MessagePack arrays; of the product it knows
nothing but the positions of fields that docs/protocol.md documents. It recomputes the weights from
the settled results with exact rationals.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import msgpack
import plyvel

VALUES = b"V"


def read_state(database: Path, prefix: bytes) -> dict[bytes, list]:
    """Return the state's records under `prefix`, decoded to plain lists, by the rest of the key."""
    handle = plyvel.DB(str(database), create_if_missing=False)
    try:
        full = VALUES + prefix
        return {
            key[len(full) :]: msgpack.unpackb(value) for key, value in handle.iterator(prefix=full)
        }
    finally:
        handle.close()


def settled_results(database: Path) -> list[dict]:
    """Return every settled result as a dictionary."""
    names = (
        "submission_id",
        "hotkey",
        "uid",
        "challenge_id",
        "challenge_version",
        "epoch",
        "admitted_seq",
        "settled_seq",
        "basis",
    )
    results = []
    for record in read_state(database, b"result/").values():
        result = dict(zip(names, record, strict=True))
        if result["basis"][0] == "replicated":
            result["outcome_class"], result["score"] = result["basis"][2], result["basis"][3]
            results.append(result)
    return results


def emissions(genesis: Path) -> dict[str, int]:
    """Return each challenge's emission from the genesis file."""
    fields = msgpack.unpackb(genesis.read_bytes())
    return {challenge[0]: challenge[6] for challenge in fields[6]}


def expected_vector(results: list[dict], emission: dict[str, int]) -> list[list[int]]:
    """Return the vector of one epoch's results in the chain's normal form."""
    best: dict[str, dict[int, int]] = {challenge: {} for challenge in emission}
    for result in results:
        scores = best[result["challenge_id"]]
        scores[result["uid"]] = max(scores.get(result["uid"], 0), result["score"])
    weights: dict[int, Fraction] = {}
    for challenge, scores in best.items():
        total = sum(scores.values())
        share = Fraction(emission[challenge], sum(emission.values()))
        for uid, score in scores.items():
            if total:
                weights[uid] = weights.get(uid, Fraction(0)) + share * Fraction(score, total)
    largest = max(weights.values(), default=Fraction(0))
    vector = []
    for uid in sorted(weights):
        scaled = weights[uid] / largest * 65535 if largest else Fraction(0)
        rounded = round(scaled)  # Fraction rounds half to even
        if rounded:
            vector.append([uid, rounded])
    return vector
