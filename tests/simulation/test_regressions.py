"""Flaws of the engine that the simulator has found, as the smallest case that shows each."""

from __future__ import annotations

from consensus import effects as fx
from consensus import inputs
from consensus.engine import Engine
from consensus.messages import DecidedSlot
from consensus.validators import Voters
from protocol.records.genesis import Parameters
from protocol.records.validators import Validator, ValidatorSet
from tests.simulation.signing import (
    NETWORK,
    Body,
    consensus_key,
    hotkey,
    keyed_sign,
    keyed_verify,
    state_root,
)

PARAMETERS = Parameters(window=1, checkpoint_interval=100)


def set_of(epoch: int, *members: int) -> ValidatorSet:
    return ValidatorSet(
        epoch=epoch,
        members=tuple(
            Validator(hotkey=hotkey(m), consensus_key=consensus_key(m), weight=1) for m in members
        ),
    )


def engine_of(member: int, first: ValidatorSet, **kept) -> Engine:
    voters, key = Voters(first, NETWORK), consensus_key(member)
    return Engine(
        voters, voters.index_of_key(key), key=key, sign=keyed_sign(key), verify=keyed_verify,
        parameters=PARAMETERS, genesis_digest=NETWORK, **kept,
    )  # fmt: skip


class Alone:
    """A validator that is its own quorum; epoch 0 ends at slot 2."""

    def __init__(self, *next_members: int) -> None:
        self.edge = inputs.Edge(2, set_of(1, *next_members))
        self.engine = engine_of(0, set_of(0, 0))
        self.journal: list = []
        self.chain: list = []
        self.said: list = []
        self.step(inputs.WorkPending(True))

    def step(self, event) -> None:
        for effect in self.engine.step(event):
            self.said.append(effect)
            if isinstance(effect, fx.Persist):
                self.journal.append(effect)
            elif isinstance(effect, fx.Decide):
                self.chain.append(effect)
                self.step(self.executed())

    def executed(self) -> inputs.Executed:
        header = self.chain[-1].certificate.header
        return inputs.Executed(header.seq, state_root(header.digest), self.edge)

    def propose(self) -> None:
        number = len(self.chain)
        self.step(inputs.Propose(Body(state_root(NETWORK), bytes([number]))))

    def stable(self):
        return [effect.certificate for effect in self.said if isinstance(effect, fx.Stable)][-1]


def crossed(*next_members: int) -> Alone:
    alone = Alone(*next_members)
    alone.propose()
    alone.propose()
    assert alone.engine.core.voters.epoch == 1
    return alone


def test_the_edge_of_an_epoch_gone_by_does_not_close_the_new_one() -> None:
    """A driver repeats `Executed` after a restart; the old edge then left no slot open, for ever.

    Found by seeds 21, 22, 46 and 57 of the first swarm.
    """
    before = crossed(0)
    after = engine_of(
        0, set_of(0, 0), executed=before.chain[-1].certificate, stable=before.stable(),
        edge=before.edge, persisted=before.journal,
    )  # fmt: skip
    after.step(before.executed())
    assert after.core.edge is None
    assert after.open_slot == 3


def test_repeating_the_last_slot_of_an_epoch_gone_by_is_no_divergence() -> None:
    """Its checkpoint was made again, under the new epoch's number, and compared with the old one.

    Found by seed 22 of the second swarm.
    """
    before = crossed(0)
    after = engine_of(
        0, set_of(0, 0), executed=before.chain[-1].certificate, stable=before.stable(),
        edge=before.edge, persisted=before.journal,
    )  # fmt: skip
    effects = after.step(before.executed())
    assert not any(isinstance(effect, fx.Diverged | fx.PersistVow) for effect in effects)
    assert after.core.me == 0


def test_an_observer_with_a_key_votes_from_the_epoch_that_names_it() -> None:
    """It had no key to look for in the new set, so nobody could ever join."""
    alone = crossed(0, 7)
    joiner = engine_of(7, set_of(0, 0))
    assert joiner.core.me is None
    for decided in alone.chain:
        message = inputs.Received(0, _decided(decided))
        assert any(isinstance(effect, fx.Decide) for effect in joiner.step(message))
        header = decided.certificate.header
        joiner.step(inputs.Executed(header.seq, state_root(header.digest), alone.edge))
    joiner.step(inputs.Received(0, alone.stable()))
    assert (joiner.core.voters.epoch, joiner.core.me) == (1, 1)


def _decided(effect: fx.Decide):
    return DecidedSlot(batch=effect.batch, certificate=effect.certificate)
