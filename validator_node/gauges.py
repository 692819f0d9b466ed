"""The node's figures, as the metrics page shows them. One row each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from validator_node.latency import percentile
from validator_node.metrics import Labelled, Sources

if TYPE_CHECKING:
    from validator_node.node import Node
    from validator_node.weight_service import WeightService


Figure = tuple[str, Callable[[], float]]
STALL_S = 30.0
"""A node that took no sample of itself for so long does nothing else either."""


def sources_of(node: Node) -> Sources:
    """Return where each metric of `node` comes from."""
    return Sources(
        gauges=_gauges(node),
        labelled_gauges={
            "jobs_waiting": ("Jobs queued", "challenge", lambda: node.worked.waiting),
            "jobs_running": ("Workers at jobs", "challenge", lambda: node.worked.running),
            **chain_labelled(node.weights),
        },
        counters=_counters(node),
        labelled={**_labelled(node), **_weights_labelled(node.weights)},
        health=lambda: why_unwell(
            time.monotonic() - node.sampled_s, node.why_observing if node.is_linked else ""
        ),
    )


def why_unwell(silent_s: float, why_observing: str | None) -> str:
    """Return why a node does not do its work; empty if it does.

    `silent_s` are the seconds since it last looked at itself, `why_observing` is why a validator
    does not vote. A node without peers is well: all that it can do is to dial them again, and a
    restart would not help.
    """
    if silent_s > STALL_S:
        return f"nothing has moved for {silent_s:.0f} s: the process is stopped or overloaded"
    if why_observing:
        return f"this validator only observes: {why_observing}"
    return ""


def _gauges(node: Node) -> dict[str, Figure]:
    return {
        **_consensus(node),
        **_work(node),
        **chain_gauges(node.weights),
        **_pool(node),
        **_sync(node),
        **_process(node),
    }


def _consensus(node: Node) -> dict[str, Figure]:
    driver = node.driver
    return {
        "height": ("Last executed slot", lambda: node.store.height),
        "view": ("Floor view", lambda: driver.engine.view),
        "primary": ("Index of the floor view's primary", lambda: driver.engine.primary),
        "epoch": ("Epoch in which results count now", lambda: node.store.epoch),
        "validating": ("1 if this node votes, 0 if it observes", lambda: int(node.me is not None)),
        "peers": ("Connected peers", lambda: len(node.network.peers())),
        "links": ("Consensus links that are up", node.links.up),
        "bans": ("Peers that are banned now", lambda: node.banned),
        "statements_waiting": ("Statements not yet executed", lambda: len(driver.pool)),
        "decision_p50_ms": (
            "Median time from proposal to execution of own proposals",
            lambda: percentile(list(driver.latencies.decision_ms), 50),
        ),
        "decision_p99_ms": (
            "99th percentile of the same",
            lambda: percentile(list(driver.latencies.decision_ms), 99),
        ),
    }


def _work(node: Node) -> dict[str, Figure]:
    intake = node.intake
    return {
        "submissions_waiting": ("Submissions not yet admitted", lambda: len(intake)),
        "changes_waiting": (
            "Changes of the owner not yet ordered",
            lambda: len(node.driver.batching.changes),
        ),
        "bodies_awaited": (
            "Submissions whose body is on its way",
            lambda: len(intake.awaited) if intake.awaited is not None else 0,
        ),
        "bodies_owed": (
            "Admitted submissions whose body this validator lacks",
            lambda: intake.awaited.owed if intake.awaited is not None else 0,
        ),
        "evaluations_waiting": ("Admitted, not yet evaluated here", lambda: len(node.evaluations)),
        "pending": ("Submissions admitted and not ended", lambda: node.tally.pending),
        "results_epoch": (
            "Newest epoch with a settled result, -1 for none",
            lambda: node.tally.results_epoch,
        ),
    }


def chain_gauges(weights: WeightService) -> dict[str, Figure]:
    """Return the figures of the way to the chain and of the weights; 0 for what it has not."""
    return {
        "chain_block": ("Newest chain block seen", lambda: weights.block),
        "chain_head_age_s": (
            "Seconds since the newest final block was seen, 0 for the embedded chain",
            lambda: status.head_age_s if (status := weights.status()) else 0.0,
        ),
        "reveals_pending": (
            "Committed weights that wait for their reveal",
            lambda: weights.submitter.pending_reveals,
        ),
        "weights_epoch": (
            "Last epoch whose weights were carried to the chain, -1 for none",
            lambda: weights.submitted_epoch,
        ),
        "chain_threads": (
            "Threads of the chain's SDK that have not ended",
            lambda: status.threads if (status := weights.status()) else 0,
        ),
        "chain_hung_threads": (
            "Those of them that do not react",
            lambda: status.hung_threads if (status := weights.status()) else 0,
        ),
        "chain_in_flight": (
            "Calls to the chain on their way",
            lambda: status.in_flight if (status := weights.status()) else 0,
        ),
    }


def chain_labelled(weights: WeightService) -> dict[str, Labelled]:
    """Return the state of the connection to the chain; nothing for a chain without one."""
    return {
        "chain_state": (
            "1 for the state of the connection to the chain",
            "state",
            lambda: {status.health: 1.0} if (status := weights.status()) else {},
        ),
        "chain_endpoint": (
            "1 for the endpoint of the chain that is connected",
            "endpoint",
            lambda: (
                {status.endpoint: 1.0} if (status := weights.status()) and status.endpoint else {}
            ),
        ),
    }


def _pool(node: Node) -> dict[str, Figure]:
    return {
        "workers_alive": ("Evaluation workers ready or busy", lambda: node.worked.alive),
        "workers_busy": ("Evaluation workers with a job in hand", lambda: node.worked.busy),
        "jobs_queued": ("Jobs that wait for a worker", lambda: node.worked.queued),
        "jobs_preparing": ("Jobs whose module is being compiled", lambda: node.worked.preparing),
        "audit_unwritten": (
            "Entries of the audit log that a crash would lose",
            lambda: node.audit.pending,
        ),
    }


def _sync(node: Node) -> dict[str, Figure]:
    progress = node.follower.download
    return {
        "sync_highest": (
            "Highest slot that a peer claims, at most 256 beyond what is certified",
            lambda: node.follower.highest,
        ),
        "sync_bytes_wanted": (
            "Bytes of the snapshot being loaded, 0 for none",
            lambda: progress.progress.bytes_wanted,
        ),
        "sync_bytes_loaded": (
            "Bytes of it that are here",
            lambda: progress.progress.bytes_loaded,
        ),
        "snapshot_seq": (
            "Slot of the newest snapshot offered, 0 for none",
            lambda: max((o.certificate.checkpoint.seq for o in node.snapshots.offers()), default=0),
        ),
        "blob_bytes_in_flight": (
            "Bytes of blobs being fetched",
            lambda: (
                node.fetcher.bytes_in_flight
                + node.module_fetcher.queue.held_bytes
                + (0 if node.intake.awaited is None else node.intake.awaited.queue.held_bytes)
            ),
        ),
    }


def _process(node: Node) -> dict[str, Figure]:
    process = psutil.Process()
    return {
        "tasks": ("Tasks of the node's process", lambda: node.tasks_living),
        "open_files": ("Open file descriptors", process.num_fds),
        "threads": ("Threads", process.num_threads),
        "resident_bytes": (
            "Resident memory of the node's process",
            lambda: process.memory_info().rss,
        ),
    }


def _counters(node: Node) -> dict[str, Figure]:
    return {
        "settled": ("Submissions settled", lambda: node.tally.settled),
        "disputed": ("Submissions disputed", lambda: node.tally.disputed),
        "copies": ("Submissions that copied an earlier body", lambda: node.tally.copies),
        "accepted": ("Submissions taken in", lambda: node.intake.accepted),
        "held_back": (
            "Turns at which a submission was not asked for: its hotkey has too many pending",
            lambda: node.intake.admissions.held_back,
        ),
        "messages_sent": ("Consensus messages sent", lambda: node.outbox.messages_sent),
        "blobs_fetched": ("Blobs fetched by their hash", lambda: node.fetcher.fetched),
        "blobs_failed": ("Blobs that nobody delivered", lambda: node.fetcher.failed),
        "blob_bytes_fetched": ("Bytes of blobs that came", lambda: node.fetcher.fetched_bytes),
        "blob_bytes_served": ("Bytes of blobs sent", lambda: node.blobs.served_bytes),
        "evidence": ("Contradicting votes seen", lambda: node.driver.evidence),
        "workers_replaced": ("Workers killed or found dead", lambda: node.worked.replaced),
        "worked_seconds": ("Working time of all workers together", lambda: node.worked.busy_s),
        "canary_failed": (
            "Challenge versions whose test vectors ended otherwise here",
            lambda: node.canary.failed,
        ),
        "modules_compiled": ("Modules compiled by a child", lambda: node.worked.compiled),
        "audited": ("Entries ever made in the audit log", lambda: len(node.audit)),
        "reveals_unread": (
            "Looks at a pending reveal that failed and are tried again",
            lambda: node.weights.submitter.unread,
        ),
    }


def _labelled(node: Node) -> dict[str, Labelled]:
    driver = node.driver
    return {
        "keys_refused": (
            "Consensus keys that were not relayed",
            "reason",
            lambda: node.key_relay.refused,
        ),
        "changes_refused": (
            "Changes of the owner that were not taken in",
            "reason",
            lambda: driver.batching.changes.refused,
        ),
        "sync": ("State sync events", "event", lambda: node.follower.counts),
        "refused": ("Submissions refused at intake", "reason", lambda: node.intake.refused),
        "messages_refused": (
            "Consensus messages that changed nothing",
            "reason",
            lambda: driver.refused,
        ),
        "frames_refused": ("Link frames and records refused", "reason", lambda: node.links.refused),
        "blobs_answered": ("Requests for blobs", "answer", lambda: node.blobs.answered),
        "dropped_old": (
            "What retention dropped",
            "kind",
            lambda: dict(node.store.retention.dropped),
        ),
        "no_ops": ("Ordered items without effect", "reason", lambda: driver.no_ops),
        "outcomes": (
            "Evaluations by outcome class",
            "outcome_class",
            lambda: node.evaluations.classes,
        ),
        "artifacts": (
            "What the cache of compiled modules did",
            "event",
            lambda: node.worked.artifact_events,
        ),
        "faults": ("Evaluations without a verdict here", "reason", lambda: node.evaluations.faults),
        "network": (
            "Network events",
            "event",
            lambda: {" ".join(key): n for key, n in node.network.counters.items()},
        ),
    }


def _weights_labelled(weights: WeightService) -> dict[str, Labelled]:
    return {
        "weight_steps": (
            "Steps of weight submissions that became durable",
            "stage",
            lambda: weights.submitter.steps,
        ),
        "weight_waits": (
            "Waits of weight submissions",
            "cause",
            lambda: weights.submitter.waits,
        ),
        "chain_events": (
            "What happened to the connection to the chain",
            "event",
            lambda: status.counts if (status := weights.status()) else {},
        ),
        "alerts": ("Trouble with weights or the chain", "reason", lambda: weights.alerts),
    }
