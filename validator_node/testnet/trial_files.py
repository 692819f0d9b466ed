"""What a trial has left in its folder: chains, journals, the miners' reports."""

from __future__ import annotations

import json
from typing import Any

from storage.errors import StorageError
from validator_node.errors import NodeError
from validator_node.opening import database_path, look_at_store
from validator_node.testnet.invariants import (
    ChainCopy,
    Violation,
    check_one_chain,
    check_one_height,
    check_signed_once,
)
from validator_node.testnet.layout import Layout, ValidatorSite
from validator_node.testnet.nodes import Nodes
from validator_node.testnet.timeline import World

END_SLACK = 2
"""Slots that some nodes may decide while others have ended already."""


def published(layout: Layout) -> dict[int, list[str] | None]:
    """Return the ids of each miner's submissions, by the miner's index; None without a report."""
    found: dict[int, list[str] | None] = {}
    for site in layout.miners:
        try:
            content: dict[str, Any] = json.loads(site.report.read_text())
        except FileNotFoundError:
            found[site.index] = None
        else:
            found[site.index] = list(content["submitted"])
    return found


def chain_of(layout: Layout, site: ValidatorSite) -> ChainCopy | None:
    """Read a stopped node's chain; None if it has never had a database."""
    state_dir = site.folder / "state"
    if not database_path(state_dir).is_dir():
        return None
    with look_at_store(state_dir, layout.genesis) as store:
        height = store.height
        digests = {
            slot: entry.digest
            for slot in range(1, height + 1)
            if (entry := store.ledger.get(slot)) is not None
        }
        roots = {slot: root for slot in range(height + 1) if (root := store.root_after(slot))}
        return ChainCopy(digests, height, roots)


def chains_of(layout: Layout) -> tuple[dict[int, ChainCopy], list[Violation]]:
    """Read all chains; a database that cannot be read is a violation."""
    chains: dict[int, ChainCopy] = {}
    broken = []
    for site in layout.nodes:
        try:
            chain = chain_of(layout, site)
        except (StorageError, NodeError) as error:
            broken.append(
                Violation("one_chain", f"the database cannot be read: {error}", (site.index,))
            )
            continue
        if chain is not None:
            chains[site.index] = chain
    return chains, broken


def check_files(
    layout: Layout, world: World, nodes: Nodes
) -> tuple[dict[int, ChainCopy], list[Violation]]:
    """Check chains, heights and journals of nodes that have all ended; return the chains too."""
    chains, found = chains_of(layout)
    found += check_one_chain(chains)
    found += check_one_height(chains, sorted(world.running), END_SLACK)
    found += check_signed_once({site.index: nodes.journals(site.index) for site in layout.nodes})
    return chains, found
