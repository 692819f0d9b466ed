"""`challenge run --replay`: reproduce a committed result bit for bit, from a stopped node's data.

Rules:

1. What the evaluation saw is taken from the replicated state right after the submission's
   admission, never guessed: a copy of the database, in a temporary folder, goes back to that slot,
   executing decided batches again where needed. The node's own data stays as it is.
2. Body and signature are checked against the submission's id and hash.
3. Equal means: verdict hash, outcome class and score are those that a quorum stated. Anything else
   exits 1 and says what differs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from challenges import examples
from challenges.artifacts import component_artifact
from protocol.codec import sha256
from protocol.records.challenge import Challenge
from protocol.records.challenge_storage import StorageEntry
from protocol.records.genesis import Genesis
from protocol.records.result import Copy, Disputed, Replicated, Result
from registry import keys
from registry.access import read
from registry.challenge_storage import snapshot
from runtime.component_admission import is_component
from runtime.errors import Fault
from runtime.evaluator import Evaluator
from runtime.outcome import Outcome
from storage.database_folder import kept_closed, link_or_copy
from validator_node.cli.challenge_tables import fuel_words
from validator_node.config import load_config, load_genesis
from validator_node.database_rollback import rollback
from validator_node.database_tools import SNAPSHOT_FOLDER, folder_bytes
from validator_node.errors import NodeError
from validator_node.evaluation_service import evaluation_job
from validator_node.opening import DATABASE_FOLDER, database_path, look_at_store
from validator_node.store import Store
from validator_node.terminal import say, say_table

DEADLINE_MS = 600_000
"""An operator's patience, not the network's: a slow machine must still be able to replay."""


class ReplayRefusedError(NodeError):
    """There is nothing to reproduce, or not enough is held to do it."""


@dataclass(frozen=True)
class Committed:
    """A committed result and what its evaluation saw."""

    result: Result
    verdict: Replicated
    pending: keys.Pending
    challenge: Challenge
    storage: tuple[StorageEntry, ...]
    body: bytes


def replay(submission_id: bytes, config: Path, own: Mapping[bytes, bytes]) -> None:
    """Evaluate a settled submission again, and compare.

    `own` holds the module and the data blobs of the author's folder, by hash.

    Exits 1 when something differs. Raises `ReplayRefusedError`, and the errors of `look_at_store`.
    """
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    committed = find(loaded.state_dir, genesis, submission_id)
    outcome = _evaluate(genesis, committed, own)
    differences = compare(committed.verdict, outcome)
    say_table(_table(committed, outcome))
    for line in differences:
        say(line, err=True)
    if differences:
        raise typer.Exit(1)
    say(f"reproduced bit for bit: verdict {outcome.verdict_hash.hex()}")


def find(state_dir: Path, genesis: Genesis, submission_id: bytes) -> Committed:
    """Return a committed result with what its evaluation saw. Raises `ReplayRefusedError`."""
    with look_at_store(state_dir, genesis) as store:
        result = store.result(submission_id)
        if result is None:
            raise ReplayRefusedError(
                f"{submission_id.hex()}: this node holds no result of it; it is unknown or waits"
            )
        verdict = _verdict(result)
        body = _body(store, result)
    pending, challenge, storage = _admission(state_dir, genesis, result)
    return Committed(result, verdict, pending, challenge, storage, body)


def compare(verdict: Replicated, outcome: Outcome) -> list[str]:
    """Return what differs, a line each."""
    pairs = (
        ("outcome class", verdict.outcome_class, outcome.outcome_class.value),
        ("score", str(verdict.score), str(outcome.score)),
        ("verdict hash", verdict.verdict_hash.hex(), outcome.verdict_hash.hex()),
    )
    return [
        f"{name}: found {found}, expected {wanted}, as committed"
        for name, wanted, found in pairs
        if wanted != found
    ]


def _verdict(result: Result) -> Replicated:
    shown = result.submission_id.hex()
    match result.basis:
        case Replicated():
            return result.basis
        case Disputed():
            reason = result.basis.reason
            raise ReplayRefusedError(f"{shown}: disputed ({reason}), so no verdict was committed")
        case Copy():
            original = result.basis.original.hex()
            raise ReplayRefusedError(f"{shown}: a copy, never evaluated; replay {original}")


def _body(store: Store, result: Result) -> bytes:
    shown = result.submission_id.hex()
    signed = store.signed_submission(result.submission_id)
    if signed is None:
        raise ReplayRefusedError(
            f"{shown}: batch {result.admitted_seq} is no longer held; use an archive node's data"
        )
    body = store.body(signed.submission.body_hash)
    if body is None or sha256(body) != signed.submission.body_hash:
        raise ReplayRefusedError(
            f"{shown}: body {signed.submission.body_hash.hex()[:16]} is not held whole; retention "
            "may have dropped it: use another node's data"
        )
    return body


def _admission(
    state_dir: Path, genesis: Genesis, result: Result
) -> tuple[keys.Pending, Challenge, tuple[StorageEntry, ...]]:
    """Return what admission fixed, from a copy of the database taken back to its slot."""
    _need_room(state_dir)
    source = database_path(state_dir)
    with tempfile.TemporaryDirectory(prefix="validator-node-replay-") as name, kept_closed(source):
        scratch = Path(name)
        (scratch / DATABASE_FOLDER).mkdir()
        link_or_copy(source, scratch / DATABASE_FOLDER)
        if (state_dir / SNAPSHOT_FOLDER).exists():
            shutil.copytree(state_dir / SNAPSHOT_FOLDER, scratch / SNAPSHOT_FOLDER)
        rollback(scratch, genesis, result.admitted_seq, lambda _stage, _done, _total: None)
        with look_at_store(scratch, genesis) as past:
            view = past.tree.view()
            pending = read(view, keys.Pending, keys.PENDING + result.submission_id)
            challenge = read(view, Challenge, keys.CHALLENGE + result.challenge_id.encode())
            storage = snapshot(view, result.challenge_id, result.admitted_seq)
    shown = result.submission_id.hex()
    if pending is None:
        raise ReplayRefusedError(f"{shown}: settled in the slot of its admission, unseen by others")
    if challenge is None or challenge.version != result.challenge_version:
        raise ReplayRefusedError(
            f"{shown}: version {result.challenge_version} of {result.challenge_id} was replaced in "
            "the slot of the admission, so its policy is not held"
        )
    return pending, challenge, storage


def _need_room(state_dir: Path) -> None:
    """Raise `ReplayRefusedError` unless the copy and what is rebuilt from it fit on the disk."""
    needed = 2 * folder_bytes(database_path(state_dir))
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ReplayRefusedError(
            f"{folder}: found {free:,} free bytes; expected {needed:,} for the database as it was. "
            "Make room, or name a folder on a larger disk in the environment variable TMPDIR"
        )


def _things(challenge: Challenge, own: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the module and the data blobs, from the author's folder or the examples."""
    known = dict(own)
    for entry in map(examples.load, examples.of_network((challenge.challenge_id,))):
        known |= {sha256(thing): thing for thing in (entry.module, *entry.blobs.values())}
    wanted = [challenge.module_hash, *(blob.digest for blob in challenge.policy.data)]
    for digest in wanted:
        if digest not in known:
            what = "module" if digest == challenge.module_hash else "data blob"
            raise ReplayRefusedError(
                f"{what} {digest.hex()} of {challenge.challenge_id} is not here; name the folder "
                "of this version of the challenge"
            )
    return [known[digest] for digest in wanted]


def _evaluate(genesis: Genesis, committed: Committed, own: Mapping[bytes, bytes]) -> Outcome:
    module, *blobs = _things(committed.challenge, own)
    job = evaluation_job(
        1,
        committed.challenge,
        committed.pending.submission,
        committed.pending.context,
        committed.body,
        committed.storage,
        DEADLINE_MS,
    )
    try:
        with Evaluator() as sandbox:
            if sandbox.engine_id != genesis.engine_id:
                say(
                    f"engine: found {sandbox.engine_id.hex()}, expected {genesis.engine_id.hex()}, "
                    "the network's; every verdict hash will differ",
                    err=True,
                )
            if is_component(module):
                sandbox.load_artifact(component_artifact(module))
            sandbox.load(module)
            for blob in blobs:
                sandbox.load_blob(blob)
            return sandbox.evaluate(job)
    except Fault as fault:
        raise ReplayRefusedError(f"this machine could not evaluate: {fault}; try again") from fault


def _table(committed: Committed, outcome: Outcome) -> Table:
    table = Table("", "committed", "here", title=committed.result.submission_id.hex())
    verdict, context = committed.verdict, committed.pending.context
    table.add_row("outcome", verdict.outcome_class, outcome.outcome_class.value)
    table.add_row("score", f"{verdict.score:,}", f"{outcome.score:,}")
    table.add_row("verdict", verdict.verdict_hash.hex()[:32], outcome.verdict_hash.hex()[:32])
    table.add_row("challenge", f"{committed.result.challenge_id} {committed.challenge.version}", "")
    table.add_row("admitted", f"slot {context.height}, epoch {context.epoch}", "")
    table.add_row("fuel", "", fuel_words(outcome, committed.challenge.policy.fuel))
    return table
