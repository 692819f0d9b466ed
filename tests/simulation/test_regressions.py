"""Flaws of the engine that the simulator has found, as the smallest case that shows each."""

from __future__ import annotations

from consensus import effects as fx
from consensus import inputs
from consensus.certificate import build_certificate
from consensus.engine import Engine
from consensus.messages import DecidedSlot, ViewChange, ViewChangeContent, Vote
from consensus.validators import Voters
from protocol.codec import digest_of
from protocol.envelope import VoteKind, vote_payload
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


class Three:
    """The honest members 0, 1 and 3 of a set of four, on perfect links; 2 is Byzantine."""

    def __init__(self) -> None:
        self.voters = Voters(set_of(0, 0, 1, 2, 3), NETWORK)
        parameters = Parameters(window=2)
        self.engines = {m: self.make(m, parameters) for m in (0, 1, 3)}
        self.heard: list[Vote] = []
        self.deaf: tuple[str, ...] = ()
        for member in self.engines:
            self.step(member, inputs.WorkPending(True))

    def make(self, member: int, parameters: Parameters) -> Engine:
        return Engine(
            self.voters, member, sign=keyed_sign(consensus_key(member)), verify=keyed_verify,
            parameters=parameters, genesis_digest=NETWORK,
        )  # fmt: skip

    def step(self, member: int, event) -> None:
        todo = [(member, event)]
        while todo:
            to, event = todo.pop(0)
            for effect in self.engines[to].step(event):
                todo += self.perform(to, effect)

    def perform(self, member: int, effect) -> list:
        match effect:
            case fx.Broadcast(message):
                if isinstance(message, Vote):
                    self.heard.append(message)
                    if message.kind in self.deaf:
                        return []
                others = [m for m in self.engines if m != member]
                return [(m, inputs.Received(member, message)) for m in others]
            case fx.Send(peer, message) if peer in self.engines:
                return [(peer, inputs.Received(member, message))]
            case fx.CheckBatch(view, seq, digest, _):
                return [(member, inputs.BatchChecked(view, seq, digest, valid=True))]
            case fx.Decide(_, certificate):
                header = certificate.header
                return [(member, inputs.Executed(header.seq, state_root(header.digest)))]
        return []

    def certificate(self, seq: int):
        """What member 2 makes of two COMMITs that it heard and one of its own."""
        votes = [v for v in self.heard if v.kind == "commit" and v.seq == seq and v.signer != 3]
        payload = vote_payload(
            self.voters.domain, VoteKind.COMMIT, view=0, seq=seq, digest=votes[0].digest,
            signer=consensus_key(2),
        )  # fmt: skip
        signatures = {vote.signer: vote.signature for vote in votes}
        signatures[2] = keyed_sign(consensus_key(2))(payload)
        header = self.engines[0].core.slots[seq].headers[votes[0].digest]
        return build_certificate(self.voters, header, "commit", 0, signatures)

    def change_of_2(self, view: int, tip) -> ViewChange:
        content = ViewChangeContent(epoch=0, view=view, tip=tip, prepared=(), signer=2)
        payload = vote_payload(
            self.voters.domain, VoteKind.VIEW_CHANGE, view=view, seq=0,
            digest=digest_of(content), signer=consensus_key(2),
        )  # fmt: skip
        signature = keyed_sign(consensus_key(2))(payload)
        return ViewChange(epoch=0, view=view, tip=tip, prepared=(), signer=2, signature=signature)


def test_a_withheld_certificate_below_the_tip_does_not_stop_the_network() -> None:
    """Nobody honest could execute slot 1 any more, though nothing was lost but one certificate.

    A Byzantine validator alone had the COMMITs; it handed out slot 2's certificate as its tip and
    kept slot 1's. Found by seeds 541 and 917 (rule 4, `consensus.ancestors`).
    """
    three = Three()
    three.deaf = ("commit",)
    for number in (1, 2):
        body = Body(state_root(NETWORK), bytes([number]))
        three.step(0, inputs.Propose(body))
    assert {engine.core.tip_seq for engine in three.engines.values()} == {0}
    change = three.change_of_2(1, three.certificate(2))
    three.deaf = ()
    assert three.voters.primary(1) == 1
    three.step(1, inputs.Received(2, change))
    three.step(0, inputs.TimerFired(inputs.Timer.PROGRESS))
    assert {engine.view for engine in three.engines.values()} == {1}
    assert {engine.core.tip_seq for engine in three.engines.values()} == {2}
    assert {engine.height for engine in three.engines.values()} == {2}


def test_who_is_far_behind_asks_on_without_waiting() -> None:
    """At 64 slots a time-out, a replica behind a busy network fell ever further back.

    Found by seed 231 of the third swarm.
    """
    ahead = Alone(0)
    ahead.edge = None
    for _ in range(70):
        ahead.propose()
    behind = engine_of(7, set_of(0, 0))
    behind.step(inputs.LinkUp(0))
    asked = []
    for decided in ahead.chain[:64]:
        effects = behind.step(inputs.Received(0, _decided(decided)))
        asked += [e.message for e in effects if isinstance(e, fx.Send)]
        header = decided.certificate.header
        behind.step(inputs.Executed(header.seq, state_root(header.digest)))
    assert [type(message).__name__ for message in asked] == ["Status"]
    assert asked[0].height == 63
