"""What of an engine's state the journal must bring back after a restart.

Left out, because nothing that was promised hangs on it: other validators' votes and view changes
(they are sent again on STATUS), certificates of decided slots below the tip (they are fetched
again), timers, proposals that were never approved, and memoised checks.
"""

from __future__ import annotations

from consensus.engine import Engine


def project(engine: Engine, chain: list) -> dict:
    core = engine.core
    slots = {}
    for seq, slot in core.slots.items():
        if seq <= core.tip_seq or core.me is None:
            continue
        votes = [
            (vote.kind, view, vote.digest)
            for ballots in (slot.approvals, slot.commits)
            for view, vote in sorted(ballots._votes.get(core.me, {}).items())
            if view == core.view
        ]
        kept = (
            votes,
            slot.prepared and (slot.prepared.view, slot.prepared.header.digest),
            slot.accepted,
            slot.committed,
        )
        if kept != ([], None, None, None):
            slots[seq] = kept
    return {
        "epoch": core.voters.epoch,
        "view": core.view,
        "changing": core.changing,
        "base": core.base_seq if not core.changing else None,
        "tip": (core.tip_seq, core.tip_digest),
        "height": (core.height, core.height_digest, len(chain)),
        "stable": core.stable_seq,
        "edge": core.edge and core.edge.seq,
        "me": core.me,
        "own view change": core.own_view_change if core.changing else None,
        "own checkpoints": sorted(core.own_checkpoints) if core.me is not None else None,
        "slots": slots,
    }
