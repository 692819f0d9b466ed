"""Sets that change by election, under faults; and a joiner who has seen none of them."""

from __future__ import annotations

import pytest

from consensus.certificate import judge_certificate
from consensus.transfer import prove_sets
from consensus.validators import Voters
from protocol.errors import ProofError
from registry.election import electorate
from tests.simulation.signing import NETWORK, keyed_verify
from tests.simulation.stateful import (
    ElectedPlan,
    StatefulNetwork,
    StatefulReplica,
    executed,
    root_of,
)
from tests.support import replaced

SETS = (
    ((0, 40), (1, 30), (2, 20), (3, 10)),
    ((0, 40), (1, 30), (2, 20), (3, 10), (4, 25)),  # 4 joins
    ((0, 20), (1, 35), (2, 20), (4, 25)),  # 3 leaves, stake moves
    ((0, 20), (5, 35), (2, 20), (4, 25)),  # hotkey 1 votes with a new key, which is member 5
    ((0, 20), (5, 35), (3, 20), (4, 25)),  # 3 comes back, 2 leaves
    ((0, 10), (5, 10), (3, 30), (4, 50)),  # stake moves once more, and the set stays
)
CALM = ElectedPlan(
    seed=1,
    sets=SETS,
    members=6,
    new_keys=((5, 1, 2),),
    window=2,
    interval=4,
    epoch_slots=4,
    safety_messages=6000,
    tell_observers=True,
)
FAULTS = {
    "calm": {},
    "quiet for observers": {"tell_observers": False},
    "loss": {"loss": 0.1, "duplicate": 0.1, "reorder": True, "max_delay_ms": 60},
    "crashes": {"crash_ms": 500, "torn": True, "lazy_ledger": True},
    "partitions": {"partition_ms": 800, "pause_ms": 400},
    "everything": {
        "loss": 0.05, "crash_ms": 800, "torn": True, "lazy_ledger": True, "partition_ms": 2000,
        "stray": 0.02, "window": 4, "interval": 3,
    },
}  # fmt: skip


def ran(name: str, seed: int) -> StatefulNetwork:
    fields = {**CALM.__dict__, **FAULTS[name], "seed": seed}
    network = StatefulNetwork(ElectedPlan(**fields))
    outcome = network.run()
    assert outcome.detail == ""
    assert outcome.epochs >= 5
    return network


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(FAULTS))
def test_sets_change_by_election_and_everybody_agrees(name: str, seed: int) -> None:
    network = ran(name, seed)
    newest = max(network.honest, key=lambda replica: len(replica.chain))
    for replica in network.honest:
        assert isinstance(replica, StatefulReplica)
        height = len(replica.chain)
        assert height > 0
        assert replica.root_after(height) == newest.root_after(height)
        now = electorate(replica.view)
        assert now is not None
        assert now.voters == network.plan.validators(now.voters.epoch)
    assert_a_joiner_follows(network, newest)


def assert_a_joiner_follows(network: StatefulNetwork, source: StatefulReplica) -> None:
    """Prove every set from the genesis', and replay the log with nothing but that."""
    plan = network.plan
    first = Voters(plan.validators(0), NETWORK)
    handovers = [source.handovers[epoch] for epoch in sorted(source.handovers)]
    proven = prove_sets(first, handovers, keyed_verify)
    assert [voters.validator_set for voters in proven] == [
        plan.validators(epoch) for epoch in range(len(proven))
    ]
    assert len(proven) > 5
    state = plan.genesis_state().entries
    for batch, certificate in source.chain:
        voters = proven[certificate.header.epoch]
        judge_certificate(voters, certificate, "commit", keyed_verify)
        state = executed(plan, state, certificate.header, batch).entries
    assert root_of(state) == source.root_after(len(source.chain))


def test_a_set_that_was_not_handed_over_is_not_believed() -> None:
    network = ran("calm", 9)
    source = network.honest[0]
    handovers = [source.handovers[epoch] for epoch in sorted(source.handovers)]
    first = Voters(network.plan.validators(0), NETWORK)
    edge = handovers[1].checkpoint
    other = replaced(edge, next_set=network.plan.validators(0).for_epoch(2))
    forged = replaced(handovers[1], checkpoint=other)
    with pytest.raises(ProofError):
        prove_sets(first, [handovers[0], forged], keyed_verify)
    with pytest.raises(ProofError):
        prove_sets(first, handovers[1:], keyed_verify)
