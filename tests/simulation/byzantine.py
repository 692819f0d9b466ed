"""Byzantine members: they share what they know and all their keys, and keep to no rule but one:
nobody signs with a key that is not theirs.

A traitor runs the honest engine for its bearings; what that says is bent on the way out by the
plan's habits, and what comes in may provoke an attack (`attacks`). Twins are two such engines with
one key, each talking to its own half of the network.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from consensus.certificate import build_certificate
from consensus.messages import (
    BatchBody,
    DecidedSlot,
    NewView,
    PrePrepare,
    ViewChange,
    Vote,
)
from consensus.validators import Voters
from protocol.envelope import VoteKind, vote_payload
from protocol.records.batch import Certificate, Header
from protocol.records.checkpoint import CheckpointVote
from tests.simulation import attacks
from tests.simulation.replica import CrashError, Replica
from tests.simulation.signing import NETWORK, Body, consensus_key, keyed_sign, keyed_verify

if TYPE_CHECKING:
    from tests.simulation.network import Network

WITHHELD = (Vote, PrePrepare, ViewChange, NewView, CheckpointVote, DecidedSlot, BatchBody)


class ForgeryError(Exception):
    """The simulator itself signed with a key that is not Byzantine."""


class Coalition:
    """What all Byzantine members know together, and the means to sign."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.rng = network.rng
        self.habits = frozenset(network.plan.habits)
        self.sets: dict[int, Voters] = {}
        self.votes: dict[tuple, dict[int, bytes]] = defaultdict(dict)
        self.headers: dict[bytes, Header] = {}
        self.bodies: dict[bytes, Body] = {}
        self.certificates: dict[tuple[int, str, int], dict[tuple, Certificate]] = defaultdict(dict)
        self.changes: dict[tuple[int, int], dict[bytes, ViewChange]] = defaultdict(dict)
        self.heard: list = []
        self.said: set[tuple] = set()
        self.made: dict[tuple, PrePrepare] = {}
        self.others: dict[tuple[int, bytes], bytes] = {}
        """(view, digest proposed to some) -> digest proposed to the others."""
        self.place = (0, 0)
        self.tip = 0
        self.sides: dict[int, int] = {}
        self.victims: set[int] = set()
        self.withheld: tuple[type, ...] = ()
        self.tick()

    # --- moods -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Every now and then: choose new victims and new sides for the twins."""
        members = range(self.network.plan.members)
        self.sides = {m: self.rng.randint(0, 1) for m in members}
        self.victims = {m for m in members if self.rng.random() < 0.5}
        self.withheld = tuple(kind for kind in WITHHELD if self.rng.random() < 0.4)
        if self.rng.random() < 0.2:
            self.withheld = ()

    def joins(self, origin: Replica, replica: Replica) -> bool:
        """Whether twins let this link be."""
        if "twins" not in self.habits:
            return True
        for one, other in ((origin, replica), (replica, origin)):
            if not one.honest and self.sides[other.member] != one.copy:
                return False
        return True

    # --- knowledge -------------------------------------------------------------------------------

    def voters(self, epoch: int) -> Voters:
        if epoch not in self.sets:
            self.sets[epoch] = Voters(self.network.plan.validators(epoch), NETWORK, after=0)
        return self.sets[epoch]

    def learn(self, message) -> None:
        if self.rng.random() < 0.1:
            self.heard = [*self.heard[-63:], message]
        match message:
            case Vote():
                self._learn_vote(message)
            case PrePrepare(vote=vote, header=header, batch=batch):
                self.headers[header.digest] = header
                self.bodies[header.digest] = batch
                self._learn_vote(vote)
            case ViewChange() if message.signer < len(self.voters(message.epoch)):
                self.changes[message.epoch, message.view][message.digest] = message
                for certificate in (message.tip, *message.prepared):
                    if certificate is not None:
                        self.keep(certificate)
            case NewView():
                self.place = max(self.place, (message.epoch, message.view))
                for change in message.view_changes:
                    self.learn(change)
            case DecidedSlot(certificate=certificate, batch=batch):
                self.keep(certificate)
                self.bodies[certificate.header.digest] = batch

    def keep(self, certificate: Certificate) -> None:
        header = certificate.header
        self.headers[header.digest] = header
        place = (header.epoch, certificate.kind, header.seq)
        self.certificates[place].setdefault((certificate.view, header.digest), certificate)

    def _learn_vote(self, vote: Vote) -> None:
        if vote.kind == "reject" or not self.is_signed(vote):
            return
        place = (vote.epoch, vote.kind, vote.seq, vote.view, vote.digest)
        signatures = self.votes[place]
        signatures.setdefault(vote.signer, vote.signature)
        header = self.headers.get(vote.digest)
        known = self.certificates[place[:3]]
        if header is None or place[3:] in known:
            return
        voters = self.voters(vote.epoch)
        if voters.is_quorum(signatures):
            self.keep(build_certificate(voters, header, vote.kind, vote.view, signatures))

    def is_signed(self, vote: Vote) -> bool:
        """Whether a vote is genuine: our own spoofs and forgeries make no certificates."""
        voters = self.voters(vote.epoch)
        if vote.signer >= len(voters):
            return False
        key = voters.key(vote.signer)
        payload = vote_payload(
            voters.domain, VoteKind(vote.kind), view=vote.view, seq=vote.seq, digest=vote.digest,
            signer=key,
        )  # fmt: skip
        return keyed_verify(key, payload, vote.signature)

    # --- signing ---------------------------------------------------------------------------------

    def traitors(self, epoch: int) -> list[int]:
        """The indices of our own in an epoch's set."""
        people = self.network.checks.members(epoch)
        return [i for i, m in enumerate(people) if m in self.network.plan.byzantine]

    def sign(self, epoch: int, signer: int, kind: str, view: int, seq: int, digest: bytes) -> bytes:
        voters = self.voters(epoch)
        if signer not in self.traitors(epoch):
            raise ForgeryError(f"the simulator signs with the key of honest {signer}")
        key = voters.key(signer)
        payload = vote_payload(
            voters.domain, VoteKind(kind), view=view, seq=seq, digest=digest, signer=key
        )
        return keyed_sign(key)(payload)

    def vote(self, kind: str, epoch: int, view: int, seq: int, digest: bytes, signer: int) -> Vote:
        signature = self.sign(epoch, signer, kind, view, seq, digest)
        vote = Vote(
            kind=kind, epoch=epoch, view=view, seq=seq, digest=digest, signer=signer,
            signature=signature,
        )  # fmt: skip
        self._learn_vote(vote)
        return vote

    def say(self, epoch: int, signer: int, message, members=None) -> None:
        """Send a message from one of us to honest members, from whichever twin reaches them."""
        member = self.network.checks.members(epoch)[signer]
        people = range(self.network.plan.members) if members is None else members
        for to in people:
            if to not in self.network.plan.byzantine:
                for copy in self.network.members[member]:
                    self.network.send(copy, to, message)

    def some(self) -> list[int]:
        """A random part of the network, its complement's counterpart drawn elsewhere."""
        share = self.rng.choice((0.3, 0.5, 0.8, 1.0))
        return [m for m in range(self.network.plan.members) if self.rng.random() < share]


class Traitor(Replica):
    """A Byzantine member."""

    honest = False

    @property
    def coalition(self) -> Coalition:
        return self.network.coalition

    @property
    def quiet(self) -> bool:
        return self.network.healed and not self.network.plan.hostile_to_the_end

    def receive(self, member: int, message) -> None:
        if self.quiet:
            return
        self.coalition.learn(message)
        if "silent" in self.coalition.habits and self.copy == 0:
            return
        super().receive(member, message)
        if self.network.rng.random() < self.network.plan.zeal:
            attacks.provoke(self.coalition, self, message)

    def turn(self) -> None:
        """Our own engine may well trip over what we do; then it starts again with nothing."""
        try:
            super().turn()
        except (CrashError, ForgeryError):
            raise
        except Exception:
            self.forget()

    def forget(self) -> None:
        """Amnesia: the journal is gone, the ledger is not."""
        self.journal, self.durable_marks = [], None
        self.inbox.clear()
        try:
            self.built()
        except Exception:
            self.chain, self.stable = [], None
            self.built()
        self.boot()

    def transmit(self, member: int, message) -> None:
        if self.quiet:
            return
        coalition, rng = self.coalition, self.network.rng
        habits = coalition.habits
        coalition.learn(message)
        if "amnesia" in habits and rng.random() < 0.002:
            self.network.at(0, self.forget)
        victim = "withhold" in habits and member in coalition.victims
        if victim and isinstance(message, coalition.withheld):
            return
        for bent in attacks.bend(coalition, self, member, message):
            super().transmit(member, bent)

    def new_batch(self, root: bytes) -> Body:
        if "bad-batch" in self.coalition.habits and self.network.rng.random() < 0.5:
            root = consensus_key(self.member)
        return super().new_batch(root)
