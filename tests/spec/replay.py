"""Replays a trace of docs/spec/pbft.qnt on real engines and compares after every step.

Each step of the model is one honest validator's; `last` names it. The replay hands the engine what
that step takes (and nothing more): the votes of the quorum, a proposal, a view change, a time-out.
Then it asks whether engine and model agree in two things (docs/spec/README.md):

- the validator's state: view, changing, base, tip with the view of its certificate, what it has
  accepted, committed and rejected in this view, its prepared certificates, whose view changes it
  has heard, and the executed chain;
- everything that honest validators have signed so far.

    python -m tests.spec.replay TRACE...
"""

from __future__ import annotations

import sys
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

from consensus import effects as fx
from consensus import inputs
from consensus.engine import Engine
from consensus.messages import BatchBody, NewView, PrePrepare, ViewChange, Vote
from protocol.records.batch import Batch, Certificate
from protocol.records.genesis import Parameters
from tests.simulation.signing import NETWORK, keyed_sign, keyed_verify
from tests.spec.itf import Record, load
from tests.spec.lies import tell
from tests.spec.projection import of_engine, of_model, sent_by_engines, sent_by_model
from tests.spec.signers import (
    BATCHES,
    NUMBERS,
    Signers,
    header_of,
    make_voters,
    path_to,
    real,
    seq_of,
)

INSTANCES = {"equal": ((310, 270, 230, 190), 2), "heavy": ((4, 2, 2, 1), 3)}
"""Weights and window of the model's instances (docs/spec/runs.qnt)."""


class DisagreementError(Exception):
    """Model and engine differ."""


class Node:
    """One honest validator: its engine and what its driver would keep."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.journal: list[fx.Persist] = []
        self.chain: list[tuple[Batch, Certificate]] = []
        self.checks: list[fx.CheckBatch] = []
        self.refused: list[str] = []


class World:
    """The engines, and all that honest validators have sent."""

    def __init__(self, weights: tuple[int, ...], window: int, byz: int) -> None:
        self.voters = make_voters(weights)
        self.signers = Signers(self.voters)
        self.parameters = Parameters(window=window, term=64, checkpoint_interval=64)
        self.byz = byz
        self.votes: dict[str, dict[tuple[int, int], set[int]]] = {
            "prepare": {}, "reject": {}, "commit": {},
        }  # fmt: skip
        self.proposals: dict[tuple[int, int], PrePrepare] = {}
        self.changes: dict[tuple[int, int], ViewChange] = {}
        self.openings: dict[int, NewView] = {}
        self.vows: dict[tuple, object] = {}
        self.nodes = {i: Node(self.build(i)) for i in range(len(weights)) if i != byz}
        for me in self.nodes:
            self.step(me, inputs.WorkPending(True))

    def build(self, me: int, node: Node | None = None) -> Engine:
        return Engine(
            self.voters,
            me,
            sign=keyed_sign(self.voters.key(me)),
            verify=keyed_verify,
            parameters=self.parameters,
            genesis_digest=NETWORK,
            executed=node.chain[-1][1] if node and node.chain else None,
            persisted=list(node.journal) if node else [],
        )

    # --- driving one engine ------------------------------------------------------------------

    def step(self, me: int, event: inputs.Input) -> None:
        node = self.nodes[me]
        for effect in node.engine.step(event):
            self.perform(me, node, effect)

    def receive(self, me: int, peer: int, message) -> None:
        self.step(me, inputs.Received(peer, message))

    def perform(self, me: int, node: Node, effect: fx.Effect) -> None:
        match effect:
            case fx.PersistVow(phase, _, view, seq, message):
                known = self.vows.setdefault((me, phase, view, seq), message)
                require(known == message, f"{me} signed twice: {phase} {view} {seq}")
                node.journal.append(effect)
            case fx.PersistFloor() | fx.PersistNote():
                node.journal.append(effect)
            case fx.Broadcast(message):
                self.note(me, message)
            case fx.CheckBatch():
                node.checks.append(effect)
            case fx.Decide(batch, certificate):
                node.chain.append((batch, certificate))
                self.step(me, inputs.Executed(certificate.header.seq, NETWORK))
            case fx.Refused(_, reason):
                node.refused.append(reason)
            case fx.Report(first, _):
                require(first.signer == self.byz, f"evidence against honest {first.signer}")

    def note(self, me: int, message) -> None:
        """Remember what an honest validator sent."""
        match message:
            case PrePrepare(vote, _, _):
                self.proposals[vote.view, NUMBERS[vote.digest]] = message
                self.note(me, vote)
            case Vote() if message.kind == "commit" and self.is_ancestor(me, message):
                pass  # the engine's answer to withheld votes, which the model does not have
            case Vote():
                key = (message.view, NUMBERS[message.digest])
                self.votes[message.kind].setdefault(key, set()).add(me)
            case ViewChange():
                self.changes[message.view, me] = message
            case NewView():
                self.openings[message.view] = message

    def is_ancestor(self, me: int, vote: Vote) -> bool:
        """Return whether `vote` is for a slot that the voter's tip has decided with itself."""
        tip = NUMBERS[self.nodes[me].engine.core.tip_digest]
        return NUMBERS[vote.digest] in path_to(tip)[:-1]

    # --- messages a step takes -----------------------------------------------------------------

    def who(self, kind: str, view: int, number: int) -> set[int]:
        """Return who has signed a vote; the Byzantine validator signs everything."""
        return self.votes[kind].get((view, number), set()) | {self.byz}

    def certificate(self, kind: str, found: Record) -> Certificate:
        signers = self.who(kind, found.view, found.digest)
        return self.signers.certificate(kind, found.view, found.digest, signers)

    def change(self, wanted: Record) -> ViewChange:
        if wanted.signer != self.byz:
            return self.changes[wanted.view, wanted.signer]
        tip = None if wanted.tip.digest == 1 else self.certificate("commit", wanted.tip)
        certificates = sorted(wanted.prepared, key=lambda c: c.digest)
        prepared = tuple(self.certificate("prepare", c) for c in certificates)
        return self.signers.change(wanted.view, self.byz, tip, prepared)

    def deliver_votes(self, me: int, kind: str, view: int, number: int) -> None:
        for peer in sorted(self.who(kind, view, number) - {me}):
            self.receive(me, peer, self.signers.vote(kind, view, number, peer))

    # --- the model's actions ---------------------------------------------------------------------

    def play(self, last: Record) -> None:
        """Do with the engine what the model's step did."""
        me, view, number = last.node, last.view, last.digest
        node = self.nodes[me]
        node.refused.clear()
        match last.what:
            case "propose":
                self.step(me, inputs.Propose(BATCHES[number % 2]))
            case "prepare" | "reject":
                self.show(me, view, number, valid=last.what == "prepare")
            case "commit":
                self.deliver_votes(me, "prepare", view, number)
            case "decide":
                self.decide(me, view, number)
            case "timeout":
                self.step(me, inputs.TimerFired(inputs.Timer.PROGRESS))
            case "giveUp":
                for rejected_view, rejected in list(self.votes["reject"]):
                    if rejected_view == view and seq_of(rejected) == number:
                        for peer in self.votes["reject"][rejected_view, rejected] - {me}:
                            vote = self.signers.vote("reject", view, rejected, peer)
                            self.receive(me, peer, vote)
            case "listen":
                for wanted in sorted(last.changes, key=lambda c: c.signer):
                    self.receive(me, wanted.signer, self.change(wanted))
            case "enter":
                self.enter(me, view, last.changes)
            case "restart":
                node.engine = self.build(me, node)
                self.step(me, inputs.WorkPending(True))
            case lie:
                tell(lie, self.signers, node.engine, me, self.byz, self.receive)
                require(bool(node.refused), f"{me} did not refuse a lie: {lie}")
        self.settle(me)
        self.probe_order(me)

    def probe_order(self, me: int) -> None:
        """Ask a copy of the engine to commit a slot before its parent (rule 4)."""
        core = self.nodes[me].engine.core
        for slot in [slot for seq, slot in core.slots.items() if seq > core.tip_seq]:
            if core.changing or slot.accepted is None or slot.committed is not None:
                continue
            number = NUMBERS[slot.accepted]
            before = core.slots.get(seq_of(number) - 1)
            if seq_of(number) == core.tip_seq + 1 or before is None or before.committed:
                continue
            engine = deepcopy(self.nodes[me].engine)
            for peer in self.who("prepare", core.view, number) - {me}:
                vote = self.signers.vote("prepare", core.view, number, peer)
                sent = engine.step(inputs.Received(peer, vote))
                early = any(isinstance(e, fx.PersistVow) and e.phase == "commit" for e in sent)
                require(not early, f"{me} commits {number} before its parent")

    def show(self, me: int, view: int, number: int, *, valid: bool) -> None:
        primary = self.voters.primary(view)
        if primary == self.byz:
            message = self.signers.proposal(view, number, primary)
        else:
            message = self.proposals[view, number]
        self.receive(me, primary, message)
        checks, self.nodes[me].checks = self.nodes[me].checks, []
        require(len(checks) == valid, f"{me} asked {len(checks)} times about a proposal")
        for check in checks:
            self.step(me, inputs.BatchChecked(check.view, check.seq, check.digest, valid=True))

    def decide(self, me: int, view: int, number: int) -> None:
        """Hand over the COMMITs, or the decided slot to one who could not count them."""
        core = self.nodes[me].engine.core
        slot = core.slots.get(seq_of(number))
        if slot is not None and real(number) in slot.headers and view <= core.view + 1:
            self.deliver_votes(me, "commit", view, number)
        else:
            found = self.signers.decided(view, number, self.who("commit", view, number))
            self.receive(me, self.byz, found)

    def enter(self, me: int, view: int, changes: frozenset[Record]) -> None:
        primary = self.voters.primary(view)
        if primary != self.byz:
            message = self.openings[view]
        else:
            listed = tuple(self.change(c) for c in sorted(changes, key=lambda c: c.signer))
            message = self.signers.opening(view, primary, listed)
        self.receive(me, primary, message)

    def settle(self, me: int) -> None:
        """Bring the bodies of decided slots, as catch-up would."""
        core = self.nodes[me].engine.core
        for number in path_to(NUMBERS[core.tip_digest]):
            if seq_of(number) <= core.height:
                continue
            slot = core.slots.get(seq_of(number))
            if slot is not None and slot.decided is not None:
                body = BatchBody(header=header_of(number), batch=BATCHES[number % 2])
                self.receive(me, self.byz, body)
                continue
            views = sorted(view for view, d in self.votes["commit"] if d == number)
            view = next(v for v in views if self.voters.is_quorum(self.who("commit", v, number)))
            found = self.signers.decided(view, number, self.who("commit", view, number))
            self.receive(me, self.byz, found)


def require(holds: bool, what: str) -> None:
    if not holds:
        raise DisagreementError(what)


def compare(world: World, state: Record) -> None:
    """Raise `DisagreementError` where engines and model differ."""
    pairs = [
        (f"validator {i}", of_engine(node.engine, node.chain), of_model(state.nodes[i]))
        for i, node in world.nodes.items()
    ]
    pairs.append(("sent", sent_by_engines(world), sent_by_model(state.sent)))
    for what, engine, model in pairs:
        differ = {k: (engine[k], model[k]) for k in model if engine[k] != model[k]}
        require(not differ, f"{what}: (engine, model) differ in {differ}")


def replay(states: list[Record], instance: str) -> int:
    """Replay a trace; return its number of steps."""
    weights, window = INSTANCES[instance]
    world = World(weights, window, states[0].byz)
    compare(world, states[0])
    for number, (before, state) in enumerate(pairwise(states), 1):
        if state == before:
            continue  # `expect` in a run repeats the state
        try:
            world.play(state.last)
            compare(world, state)
        except (DisagreementError, AssertionError) as error:
            what = f"step {number} ({state.last.what} of {state.last.node}): {error}"
            raise DisagreementError(what) from error
    return len(states) - 1


def instance_of(path: Path) -> str:
    """A trace's file name begins with its instance."""
    return path.name.split("_", 1)[0]


def main(names: list[str]) -> int:
    failed = steps = 0
    for path in map(Path, names):
        try:
            steps += replay(load(path), instance_of(path))
        except DisagreementError as error:
            failed += 1
            sys.stderr.write(f"replay: {path}: {error}\n")
    sys.stdout.write(f"replay: {len(names)} traces, {steps} steps, {failed} disagreements\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
