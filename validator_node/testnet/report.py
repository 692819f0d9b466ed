"""What a finished test network came to, read from its files after all processes have ended.

Everything is checked here, not believed: equal chain hash and state root at one height, equal
vectors on the chain, and no two signatures for one slot in any journal. What fails raises
`TestnetError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from chain.interface import WeightVector
from protocol.codec import decode
from protocol.identity import ss58_of
from protocol.records.result import Replicated, Result
from registry import keys as state_keys
from registry.submissions import best_scores
from storage.vow_audit import audit_vows
from validator_node.errors import TestnetError
from validator_node.founding import embedded_chain
from validator_node.latency import percentile
from validator_node.node import SUMMARY_FILE
from validator_node.opening import look_at_store
from validator_node.store import Store
from validator_node.testnet.layout import Layout, ValidatorSite
from validator_node.testnet.processes import Child

Weights = list[list[int]]


def make_report(
    layout: Layout,
    duration_s: float,
    children: list[Child],
    stored: Mapping[int, WeightVector],
) -> dict[str, Any]:
    """Return the report of a network whose validators have ended.

    `stored` is what the development chain held for each validator; the embedded one is read here.
    """
    with ExitStack() as opened:
        stores = [
            opened.enter_context(look_at_store(site.folder / "state", layout.genesis))
            for site in layout.validators
        ]
        height = min(store.height for store in stores)
        validators = [
            _validator(layout, site, store, height, stored)
            for site, store in zip(layout.validators, stores, strict=True)
        ]
        first = stores[0]
        results = [decode(Result, data) for _, data in first.tree.items(state_keys.RESULT)]
        report = {
            "duration_s": round(duration_s, 3),
            "evaluations_finalised": sum(isinstance(r.basis, Replicated) for r in results),
            "decision_ms": _decision_ms(layout),
            "validators": validators,
            "miners": _miners(layout, first, results, validators[0]["weights"]),
        }
    for entry, child in zip(validators, children, strict=True):
        entry["rss_mb"], entry["cpu_s"] = child.last_rss_mb, round(child.last_cpu_s, 2)
    _check(layout, validators)
    return report


def _validator(
    layout: Layout,
    site: ValidatorSite,
    store: Store,
    height: int,
    stored: Mapping[int, WeightVector],
) -> dict[str, Any]:
    entry = store.ledger.get(height)
    root = store.root_after(height)
    if entry is None or root is None:
        raise TestnetError(f"validator {site.index} has no slot {height}")
    if layout.chain is None:
        chain = embedded_chain(layout.genesis, layout.chain_dir)
        weights = trio.run(chain.weights_of, site.index)
    else:
        weights = stored.get(site.index, ())
    return {
        "index": site.index,
        "peer_id": site.address.rsplit("/p2p/", 1)[-1],
        "height": height,
        "chain_hash": entry.digest.hex(),
        "state_root": root.hex(),
        "rss_mb": 0.0,
        "cpu_s": 0.0,
        "weights": [[uid, weight] for uid, weight in weights],
    }


def _decision_ms(layout: Layout) -> dict[str, float]:
    values: list[float] = []
    for site in layout.validators:
        values.extend(_read_json(site.folder / "state" / SUMMARY_FILE).get("decision_ms", []))
    return {"p50": round(percentile(values, 50), 2), "p99": round(percentile(values, 99), 2)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return content


def submitted_epoch(store: Store, vector: Weights) -> int | None:
    """Return the newest closed epoch whose certified vector is `vector`."""
    for epoch in range(store.epoch - 1, -1, -1):
        weights = store.weights(epoch)
        if weights and [[entry.uid, entry.weight] for entry in weights.vector] == vector:
            return epoch
    return None


def _miners(
    layout: Layout, store: Store, results: list[Result], vector: Weights
) -> list[dict[str, Any]]:
    epoch = submitted_epoch(store, vector)
    best = best_scores(store.tree.view(), epoch) if epoch is not None else {}
    weights: dict[int, int] = {entry[0]: entry[1] for entry in vector}
    miners = []
    for site in layout.miners:
        done = _read_json(site.report)
        mine = [result for result in results if result.uid == site.uid]
        submitted = done.get("submitted", {})
        known = {result.submission_id.hex() for result in mine}
        hotkey = layout.genesis.neurons[site.uid].hotkey
        scores = {name: found[hotkey].score for name, found in best.items() if hotkey in found}
        miners.append(
            {
                "uid": site.uid,
                "hotkey": done.get("hotkey", ss58_of(hotkey)),
                "submitted": len(submitted),
                "finalised": sum(isinstance(result.basis, Replicated) for result in mine),
                "refused": sum(submission_id not in known for submission_id in submitted),
                "score": sum(scores.values()),
                "scores": scores,
                "weight": weights.get(site.uid, 0),
                "receipts_verified": len(done.get("receipts", {})),
            }
        )
    return miners


def _check(layout: Layout, validators: list[dict[str, Any]]) -> None:
    for field in ("chain_hash", "state_root", "weights"):
        values = {json.dumps(entry[field]) for entry in validators}
        if len(values) != 1:
            raise TestnetError(f"the validators differ in {field}: {', '.join(sorted(values))}")
    if not validators[0]["weights"]:
        raise TestnetError("no weights on the chain")
    for site in layout.validators:
        audit = audit_vows([site.folder / "state" / "journal"])
        if not audit.clean:
            raise TestnetError(f"validator {site.index} signed twice: {audit}")
