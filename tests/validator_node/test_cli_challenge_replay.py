"""`challenge run --replay`: a committed result, reproduced from a stopped node's database."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from challenges.project import Project
from challenges.record import challenge_record
from consensus.validators import Voters
from protocol.codec import ZERO_DIGEST, decode, sha256
from protocol.records.statement import VerdictItem
from protocol.records.submission import Submission
from registry.keys import PENDING, Pending
from runtime.engine import engine_id
from runtime.outcome import Outcome
from runtime.sandbox import Sandbox
from storage.database import Column
from tests.challenges.folders import answer, answering, wat_project
from tests.support import make_verdict, replaced
from tests.validator_node.databases import Node
from validator_node.cli.challenge import app
from validator_node.cli.challenge_replay import ReplayRefusedError
from validator_node.evaluation_service import evaluation_job
from validator_node.store import Store

BODY = b"the body"


class Played:
    """A node that settled one submission of a real challenge by its real verdict."""

    def __init__(self, folder: Path, project: Project) -> None:
        self.project = project
        self.node = Node(folder)
        world = self.node.world
        module = project.module()
        self.challenge = replaced(
            challenge_record(project.spec, sha256(module), {}, b""), challenge_id="alpha"
        )
        world.genesis = replaced(world.genesis, engine_id=engine_id(), challenges=(self.challenge,))
        world.network_id = world.genesis.network_id
        world.voters = Voters(world.genesis.validators, world.network_id)
        self.store = self.node.open()
        signed = world.signed(BODY)
        self.id = signed.submission.submission_id
        self.store.put_body(sha256(BODY), BODY)
        for _ in range(2):  # so that the time at admission is not that of the genesis
            self.state(make_verdict(ZERO_DIGEST), clock_ms=1_700_000_123_456)
        self.node.decide(self.store, world.statement(0, signed))
        self.outcome = self.evaluate(self.store, signed.submission, module)

    def state(self, *items: VerdictItem, **changes: int) -> None:
        statements = [self.node.world.statement(who, *items, **changes) for who in range(3)]
        self.node.decide(self.store, *statements)

    def evaluate(self, store: Store, submission: Submission, module: bytes) -> Outcome:
        pending = decode(Pending, store.tree.view().get(PENDING + self.id))
        assert pending.context.time_ms >= 1_700_000_123_456
        with Sandbox() as sandbox:
            sandbox.load(module)
            job = evaluation_job(1, self.challenge, submission, pending.context, BODY, (), 10_000)
            return sandbox.evaluate(job)

    def settle(self, **changes: object) -> Played:
        verdict = VerdictItem(
            submission_id=self.id,
            verdict_hash=self.outcome.verdict_hash,
            outcome_class=self.outcome.outcome_class.value,
            score=self.outcome.score,
        )
        self.state(replaced(verdict, **changes))
        self.node.settle(self.store)
        self.store.close()
        return self

    def replay(self, *, code: int = 0, submission_id: bytes | None = None) -> str:
        wanted = (submission_id or self.id).hex()
        command = ["run", "--replay", wanted, "--config", str(self.node.config())]
        found = CliRunner(env={"COLUMNS": "200"}).invoke(
            app, [*command, str(self.project.folder)], catch_exceptions=False
        )
        assert found.exit_code == code, found.output
        return str(found.output)


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path, wat_project(tmp_path, answering(answer(77)), "alpha"))


def test_a_committed_result_is_reproduced(played: Played):
    before = sorted(path.name for path in played.settle().node.state_dir.iterdir())
    printed = played.replay()
    assert f"reproduced bit for bit: verdict {played.outcome.verdict_hash.hex()}" in printed
    assert sorted(path.name for path in played.node.state_dir.iterdir()) == before
    assert played.replay() == printed


def test_what_differs_is_said(played: Played):
    played.settle(verdict_hash=ZERO_DIGEST, score=78)
    printed = played.replay(code=1)
    assert "score: found 77, expected 78, as committed" in printed
    found = played.outcome.verdict_hash.hex()
    assert f"verdict hash: found {found}, expected {'00' * 32}" in printed
    assert "outcome class:" not in printed


def test_another_module_is_not_taken_for_it(tmp_path: Path, played: Played):
    played.settle()
    played.project = wat_project(tmp_path, answering(answer(78)), "other")
    with pytest.raises(ReplayRefusedError, match="is not here; name the folder"):
        played.replay()


def test_what_cannot_be_replayed_is_named(played: Played):
    played.settle()
    with pytest.raises(ReplayRefusedError, match="holds no result of it"):
        played.replay(submission_id=ZERO_DIGEST)
    played.node.change(Column.BLOBS, sha256(BODY), None)
    with pytest.raises(ReplayRefusedError, match="is not held whole"):
        played.replay()


def test_a_copy_and_a_dispute_have_no_verdict(played: Played):
    world = played.node.world
    copied = world.signed(BODY, miner=1)
    played.node.decide(played.store, world.statement(0, copied))
    played.settle()
    with pytest.raises(ReplayRefusedError, match=f"a copy.*; replay {played.id.hex()}"):
        played.replay(submission_id=copied.submission.submission_id)
