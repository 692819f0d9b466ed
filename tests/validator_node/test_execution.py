from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from consensus.validators import Voters
from protocol.actions import Action
from protocol.codec import ZERO_DIGEST, digest_of, sha256
from protocol.records.batch import Batch, Header
from protocol.records.canary import CanaryItem
from protocol.records.result import Copy, Disputed, Replicated
from protocol.records.submission import MAX_EXPIRY_EPOCHS
from protocol.records.validators import ValidatorSet
from protocol.records.weights import EpochWeights, weights_key
from protocol.view import DictView
from registry import keys
from registry.access import current_epoch, read, write
from registry.pruning import PRUNED_A_SLOT, remember
from registry.submissions import NoOp
from tests.support import (
    START_MS,
    World,
    make_challenge,
    make_observation,
    make_verdict,
    replaced,
)
from validator_node.execution import Outcome, execute
from validator_node.store import Store


def run(world: World, view: DictView, seq: int, *actions: Action) -> Outcome:
    batch = Batch(state_root=ZERO_DIGEST, actions=actions)
    header = Header(epoch=0, seq=seq, parent=ZERO_DIGEST, body_root=batch.body_root())
    return execute(view, world.voters, world.genesis.parameters, header, batch)


def script(world: World) -> list[list[Action]]:
    """Return a history with something of everything; with W = 2, slot 7 ends the epoch."""
    submission = world.signed(b"one")
    verdict = make_verdict(submission.submission.submission_id, 7)
    history = [
        [world.statement(0, submission, world.signed(b"two", miner=1), clock_ms=START_MS + 5)],
        [],
        [world.statement(signer, verdict, clock_ms=START_MS + 50) for signer in (1, 2, 3)],
        [world.change(1, make_challenge("gamma")), world.statement(1, world.signed(b"x", miner=2))],
        world.agreeing(world.metagraph(1), (0, 1, 2)),
        [world.statement(3, world.signed(b"one", miner=2))],
        [],
    ]
    world.begin_epoch(1)
    return [*history, [world.statement(0, world.signed(b"three"))]]


def test_two_nodes_that_execute_the_same_batches_have_the_same_state(tmp_path: Path) -> None:
    world = World(window=2, dispute_after=3)
    batches = script(world)
    stores = [Store.open(tmp_path / name, world.genesis, create=True) for name in ("a", "b")]
    view = world.state()
    for seq, actions in enumerate(batches, start=1):
        first, second = (world.decide(store, *actions) for store in stores)
        assert first == second
        stores[0].flush()
        roots = {store.root_after(seq) for store in stores}
        assert roots == {stores[0].tree.recompute()}
        header = stores[0].certificate_at(seq).header
        execute(view, world.voters, world.genesis.parameters, header, stores[0].batch_at(seq)[0])
    for store in stores:
        assert dict(store.tree.items()) == view.entries
        store.close()


def test_each_event_is_filed_where_it_belongs() -> None:
    world = World(window=2, dispute_after=3)
    view = world.state()
    outcomes = [
        run(world, view, seq, *actions) for seq, actions in enumerate(script(world), start=1)
    ]
    assert [len(outcome.admitted) for outcome in outcomes] == [2, 0, 0, 1, 0, 0, 0, 1]
    bases = [type(result.basis) for outcome in outcomes for result in outcome.results]
    assert bases == [Replicated, Disputed, Copy, Disputed]
    assert [len(outcome.weights) for outcome in outcomes] == [0, 0, 0, 0, 0, 0, 1, 0]
    assert [outcome.edge for outcome in outcomes] == [None] * 4 + [7, 7, None, None]
    assert all(outcome.no_ops == [] for outcome in outcomes)


def test_counters_rise_by_one_and_nothing_else_applies() -> None:
    world = World()
    view = world.state()
    first = world.statement(0, world.signed(b"one"), counter=1)
    ahead = world.statement(0, world.signed(b"three"), counter=3)
    outcome = run(world, view, 1, ahead, first, first, ahead)
    assert len(outcome.admitted) == 1
    assert outcome.no_ops == [
        NoOp("counter", digest_of(statement.header)) for statement in (ahead, first, ahead)
    ]
    mark = keys.Mark(counter=1, clock_ms=START_MS)
    assert read(view, keys.Mark, keys.MARK + keys.u16(0)) == mark
    second = world.statement(0, world.signed(b"two"), counter=2)
    assert len(run(world, view, 2, second, ahead).admitted) == 2


def test_counters_are_each_validators_own() -> None:
    world = World()
    statements = [world.statement(n, world.signed(bytes([n])), counter=1) for n in range(4)]
    assert run(world, world.state(), 1, *statements).no_ops == []


def test_an_empty_batch_changes_nothing() -> None:
    world = World()
    view = world.state()
    run(world, view, 1, world.statement(0, world.signed(), clock_ms=START_MS + 5))
    before = dict(view.entries)
    outcome = run(world, view, 2)
    assert outcome == Outcome()
    assert view.entries == before


def test_an_empty_batch_still_ends_what_is_overdue() -> None:
    world = World(dispute_after=3)
    view = world.state()
    run(world, view, 1, world.statement(0, world.signed()))
    assert run(world, view, 3).results == []
    (result,) = run(world, view, 4).results
    assert (result.basis, result.settled_seq) == (Disputed(reason="timeout"), 4)


def test_a_verdict_that_comes_with_its_time_out_comes_too_late() -> None:
    world = World((1,), dispute_after=3)
    view = world.state()
    signed = world.signed()
    run(world, view, 1, world.statement(0, signed))
    submission_id = signed.submission.submission_id
    outcome = run(world, view, 4, world.statement(0, make_verdict(submission_id)))
    assert [result.basis for result in outcome.results] == [Disputed(reason="timeout")]
    assert outcome.no_ops == [NoOp("already_settled", submission_id)]


def test_network_time_follows_the_clocks_of_earlier_batches() -> None:
    world = World()
    view = world.state()
    clocks = (START_MS + 1000, START_MS + 2000, START_MS + 3000)
    statements = [
        world.statement(signer, world.signed(bytes([signer])), clock_ms=clock)
        for signer, clock in enumerate(clocks)
    ]
    first = run(world, view, 1, *statements)
    assert {admitted.context.time_ms for admitted in first.admitted} == {START_MS + 1}
    second = run(world, view, 5, world.statement(3, world.signed(b"late")))
    assert second.admitted[0].context.time_ms == START_MS + 1000
    assert read(view, keys.Time, keys.TIME) == keys.Time(time_ms=START_MS + 1000, seq=5)


def test_validators_reports_activate_what_the_owner_proposed() -> None:
    world = World()
    view = world.state()
    gamma = make_challenge("gamma")
    outcome = run(world, view, 1, world.change(1, gamma))
    assert (outcome.catalogue_changed, outcome.decided) == (True, [])
    report = CanaryItem(challenge=digest_of(gamma), results=sha256(b"results"), failure="")
    said = [world.statement(signer, report) for signer in range(4)]
    outcome = run(world, view, 2, *said)
    assert [(one.challenge, one.reason) for one in outcome.decided] == [(gamma, "")]
    assert outcome.no_ops == [NoOp("no_candidate", digest_of(gamma))]
    assert not outcome.catalogue_changed


def test_the_state_shrinks_whatever_a_batch_is_full_of() -> None:
    world = World((1,), keep_epochs=MAX_EXPIRY_EPOCHS + 1)
    view = world.state()
    for number in range(PRUNED_A_SLOT * 3):
        remember(view, 0, sha256(b"old", bytes([number])), b"content/")
    write(view, keys.EPOCH, keys.Progress(epoch=MAX_EXPIRY_EPOCHS + 2))

    def rows() -> int:
        return sum(1 for kind in (keys.ENDED, keys.BEST) for _ in view.items(kind))

    until = MAX_EXPIRY_EPOCHS + 2
    settled = []
    for miner in range(4):
        signed = world.signed(b"%d" % miner, miner=miner, expiry_epoch=until)
        settled += [signed, make_verdict(signed.submission.submission_id)]
    copies = [world.signed(b"0", miner=miner, expiry_epoch=until) for miner in (1, 2, 3)]
    for seq, items in enumerate((settled, copies), start=1):
        before = rows()
        assert len(run(world, view, seq, world.statement(0, *items)).no_ops) == 0
        assert rows() <= before - PRUNED_A_SLOT
    assert rows() == PRUNED_A_SLOT, "each item of these made a row"


def test_the_first_slot_of_an_epoch_judges_candidates_by_the_new_set() -> None:
    world = World(window=1)
    view = world.state()
    gamma = make_challenge("gamma")
    report = CanaryItem(challenge=digest_of(gamma), results=sha256(b"results"), failure="")
    said = [world.statement(signer, report) for signer in (0, 1)]
    run(world, view, 1, world.change(1, gamma), *said)
    run(world, view, 2, *world.agreeing(world.metagraph(1), range(3)))
    assert len(run(world, view, 3).weights) == 1
    left = ValidatorSet(epoch=1, members=world.voters.members[:2])
    write(view, keys.VOTERS, keys.Electorate(voters=left, since=3, reason=""))
    world.voters = Voters(left, world.network_id, after=10)
    [decided] = run(world, view, 4).decided
    assert (decided.challenge, decided.reason) == (gamma, "")


def test_a_change_that_does_not_apply_is_a_no_op_with_its_reason() -> None:
    world = World()
    view = world.state()
    change = world.change(2, make_challenge("gamma"))
    outcome = run(world, view, 1, change, world.change(1, make_challenge("gamma")), change)
    assert outcome.no_ops == [NoOp("sequence", digest_of(change.content))]
    assert outcome.admitted == []


def test_observations_of_another_epoch_are_no_ops() -> None:
    world = World()
    observation = make_observation(5)
    outcome = run(world, world.state(), 1, world.statement(0, observation))
    assert outcome.no_ops == [NoOp("other_epoch", observation.block_hash)]


def test_an_observation_after_the_edge_is_fixed_is_a_no_op() -> None:
    world = World(window=2)
    view = world.state()
    first, late = world.metagraph(1), make_observation(1, block=40)
    outcome = run(world, view, 1, *world.agreeing(first, range(3)))
    assert (outcome.edge, outcome.no_ops) == (3, [])
    outcome = run(world, view, 2, world.statement(3, late))
    assert outcome.no_ops == [NoOp("edge_fixed", late.block_hash)]
    (weights,) = run(world, view, 3).weights
    assert weights.block_hash == first.block_hash


def test_what_settles_in_the_edge_counts_in_the_ending_epoch() -> None:
    world = World(window=1)
    view = world.state()
    signed, later = world.signed(expiry_epoch=1), world.signed(b"later", expiry_epoch=1)
    verdicts = [make_verdict(one.submission.submission_id) for one in (signed, later)]
    agreeing = world.agreeing(world.metagraph(1), range(3))
    run(world, view, 1, *agreeing, world.statement(3, signed, later))
    edge = run(world, view, 2, *[world.statement(signer, verdicts[0]) for signer in range(3)])
    assert [result.epoch for result in edge.results] == [0]
    assert [entry.uid for weights in edge.weights for entry in weights.vector] == [world.uid(0)]
    assert current_epoch(view) == 1
    world.begin_epoch(1)
    after = run(world, view, 3, *[world.statement(signer, verdicts[1]) for signer in range(3)])
    assert [result.epoch for result in after.results] == [1]
    assert after.no_ops == []


def test_counters_begin_again_with_the_epoch() -> None:
    world = World(window=1)
    view = world.state()
    run(world, view, 1, *world.agreeing(world.metagraph(1), range(3)))
    run(world, view, 2)
    old = world.statement(0, world.signed(b"old", expiry_epoch=1), counter=2)
    fresh = world.statement(0, world.signed(b"fresh", expiry_epoch=1), counter=1)
    outcome = run(world, view, 3, old, fresh)
    assert outcome.no_ops == [NoOp("counter", digest_of(old.header))]
    assert len(outcome.admitted) == 1


# --- the end of an epoch -------------------------------------------------------------------------


def settle(world: World, view: DictView, scores: dict[tuple[str, int], int]) -> None:
    """Let each (challenge, miner) have one settled score."""
    for (challenge_id, miner), score in scores.items():
        body = sha256(challenge_id.encode(), bytes([miner]))
        signed = world.signed(body, miner=miner, challenge_id=challenge_id)
        verdict = make_verdict(signed.submission.submission_id, score)
        admission = world.statement(0, signed)
        verdicts = [world.statement(signer, verdict) for signer in (1, 2, 3)]
        assert len(run(world, view, 1, admission, *verdicts).results) == 1


def close(world: World, view: DictView, epoch: int = 1) -> EpochWeights:
    """Observe the epoch's end and execute its edge."""
    metagraph = world.metagraph(epoch, block=20 * epoch)
    edge = run(world, view, 100 * epoch, *world.agreeing(metagraph, range(3))).edge
    assert edge == 100 * epoch + world.genesis.parameters.window
    assert run(world, view, edge - 1).weights == []
    (weights,) = run(world, view, edge).weights
    world.begin_epoch(1)
    assert (weights.epoch, weights.block) == (epoch - 1, 20 * epoch)
    assert weights.block_hash == metagraph.block_hash
    assert read(view, EpochWeights, weights_key(epoch - 1)) == weights
    return weights


def expected_vector(
    scores: dict[tuple[str, int], int], emission: dict[str, int], first_uid: int
) -> list[tuple[int, int]]:
    """Each miner's share of each challenge's emission; the largest becomes 65535."""
    shares: dict[int, Fraction] = {}
    for (challenge_id, miner), score in scores.items():
        total = sum(other for (name, _), other in scores.items() if name == challenge_id)
        if total:
            part = Fraction(emission[challenge_id], sum(emission.values())) * Fraction(score, total)
            shares[miner] = shares.get(miner, Fraction(0)) + part
    top = max(shares.values(), default=Fraction(0))
    if not top:
        return []
    rounded = [(first_uid + miner, round(shares[miner] / top * 65535)) for miner in sorted(shares)]
    return [(uid, weight) for uid, weight in rounded if weight]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["alpha", "beta"]), st.integers(0, 3)),
        st.one_of(st.just(0), st.integers(0, 1_000_000)),
    )
)
def test_the_vector_is_each_miners_share(scores: dict[tuple[str, int], int]) -> None:
    world = World()
    view = world.state()
    settle(world, view, scores)
    vector = [(entry.uid, entry.weight) for entry in close(world, view).vector]
    assert vector == expected_vector(scores, {"alpha": 3, "beta": 1}, world.uid(0))


def test_a_vector_by_hand() -> None:
    """alpha pays 3/4, beta 1/4: miner 0 has 3/4 * 2/3 = 1/2, miner 1 has 1/4 + 1/4 = 1/2."""
    world = World()
    view = world.state()
    settle(world, view, {("alpha", 0): 2, ("alpha", 1): 1, ("beta", 1): 5, ("beta", 2): 0})
    vector = [(entry.uid, entry.weight) for entry in close(world, view).vector]
    assert vector == [(world.uid(0), 65535), (world.uid(1), 65535)]


def test_an_epoch_without_results_has_an_empty_vector_and_scores_do_not_carry_over() -> None:
    world = World()
    view = world.state()
    settle(world, view, {("alpha", 0): 2})
    assert len(close(world, view).vector) == 1
    assert close(world, view, epoch=2).vector == ()


def test_a_retired_challenge_pays_nothing() -> None:
    world = World()
    view = world.state()
    settle(world, view, {("alpha", 0): 2, ("beta", 1): 3})
    retired = replaced(make_challenge("alpha"), emission=0)
    run(world, view, 2, world.change(1, retired))
    vector = [(entry.uid, entry.weight) for entry in close(world, view).vector]
    assert vector == [(world.uid(1), 65535)]
