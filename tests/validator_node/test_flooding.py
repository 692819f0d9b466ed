"""One miner and one dishonest validator, who together try to bury the others in evaluations.

Validator 0 is a real one: intake, speaker, store and evaluations by a real worker. Validators 1
and 2 repeat its verdicts, validator 3 asks for the admission of whatever the miner signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import trio

from consensus.validators import Voters
from protocol.actions import Action
from protocol.codec import encode, sha256
from protocol.records.result import Replicated
from protocol.records.statement import Statement, VerdictItem
from protocol.records.submission import PostedSubmission, SubmissionMessage, submission_topic
from registry.pending import count_pending
from runtime.pool import WorkerPool, open_pool
from storage.audit_log import AuditLog
from tests.makers import replaced
from tests.runtime.modules import POLICY, module, output, returning
from tests.support import World
from tests.validator_node.intake_support import intake_of, speaker_of
from validator_node.evaluation_service import EvaluationService
from validator_node.execution import Outcome
from validator_node.network.gossip import CheckAnswer
from validator_node.store import Store

ANSWER = output(score=700_000)
MODULE = module(returning(ANSWER), data=ANSWER)
ROOM = 16
FLOOD = 60
HONEST = 5
HOSTILE = 3
WAIT_S = 60


@pytest.fixture
def world() -> World:
    made = World(window=2, dispute_after=500, max_pending_per_hotkey=ROOM)
    first, second = made.genesis.challenges
    good = replaced(first, module_hash=sha256(MODULE), policy=POLICY)
    made.genesis = replaced(made.genesis, challenges=(good, second))
    made.network_id = made.genesis.network_id
    made.voters = Voters(made.genesis.validators, made.network_id)
    return made


@pytest.fixture
def store(tmp_path: Path, world: World) -> Iterator[Store]:
    opened = Store.open(tmp_path / "db", world.genesis, create=True)
    yield opened
    opened.close()


class Site:
    """Validator 0 and what the others do whenever it has said something."""

    def __init__(self, world: World, store: Store, pool: WorkerPool, folder: Path) -> None:
        self.world, self.store = world, store
        self.said = 0
        self.flooded = count()
        self.outcomes: list[Outcome] = []
        self.most_pending = 0
        self.changed = trio.Event()
        self.speaker = speaker_of(world, store, self._say, lambda: self.said)
        self.intake = intake_of(world, store, self.speaker, rate=50)
        self.evaluations = EvaluationService(
            store,
            pool,
            self.speaker,
            self._no_body,
            AuditLog(store.database, folder / "audit"),
            deadline_ms=20_000,
        )

    async def _no_body(self, submission: object) -> bytes | None:
        raise AssertionError("every body is here")

    async def _say(self, statement: Statement) -> None:
        self.said += 1
        verdicts = [item for item in statement.items if isinstance(item, VerdictItem)]
        agreeing = [self.world.statement(n, *verdicts) for n in (1, 2) if verdicts]
        self.execute(self.flood(), statement, *agreeing)

    def flood(self) -> Statement:
        """Let the dishonest validator ask for `FLOOD` more admissions."""
        signed = []
        for _ in range(FLOOD):
            body = b"flood %d" % next(self.flooded)
            signed.append(self.world.signed(body))
            self.store.put_body(sha256(body), body)
        return self.world.statement(HOSTILE, *signed)

    def execute(self, *actions: Action) -> None:
        outcome = self.world.decide(self.store, *actions)
        self.outcomes.append(outcome)
        self.intake.on_executed([one.submission_id for one in outcome.admitted], [])
        for admitted in outcome.admitted:
            self.evaluations.add(admitted)
        pending = count_pending(self.store.tree.view(), self.world.miners[0].public_key)
        self.most_pending = max(self.most_pending, pending)
        self.changed.set()
        self.changed = trio.Event()

    def publish(self, *posted: PostedSubmission) -> bool:
        topic = submission_topic(self.world.network_id, "alpha")
        message = encode(SubmissionMessage(posted=posted))
        return self.intake.check(topic, message, "peer") is CheckAnswer.ACCEPT

    async def settled(self, posted: list[PostedSubmission]) -> None:
        ids = [entry.signed.submission_id for entry in posted]
        with trio.fail_after(WAIT_S):
            while not all(self.store.result(submission_id) for submission_id in ids):
                await self.changed.wait()


async def test_a_flood_through_one_validator_buries_nobody(
    world: World, store: Store, tmp_path: Path
) -> None:
    honest = [world.posted(b"honest %d" % number, miner=1) for number in range(HONEST)]
    async with (
        open_pool(1, module_source={sha256(MODULE): MODULE}.get) as pool,
        trio.open_nursery() as nursery,
    ):
        site = Site(world, store, pool, tmp_path)
        for _ in range(10):
            site.execute(site.flood())
        owed = len(site.evaluations)
        for task in (site.evaluations.run, site.speaker.run, site.intake.run):
            nursery.start_soon(task)
        assert site.publish(*honest)
        await site.settled(honest)
        nursery.cancel_scope.cancel()
    assert owed == ROOM
    assert site.most_pending == ROOM
    for posted in honest:
        result = store.result(posted.signed.submission_id)
        assert result is not None
        assert isinstance(result.basis, Replicated)
    no_ops = [no_op.reason for outcome in site.outcomes for no_op in outcome.no_ops]
    assert set(no_ops) == {"too_many_pending"}
    admitted = [entry for outcome in site.outcomes for entry in outcome.admitted]
    assert len(admitted) + len(no_ops) == FLOOD * len(site.outcomes) + HONEST
