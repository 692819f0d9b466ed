"""What must hold at every step (docs/consensus.md, section 4). A breach raises `Breach`.

The checks see what honest replicas make durable, send, execute and report; they share no code with
the engine beyond the records.

"Decided" is taken as strongly as it can be: a digest for which honest COMMITs that were signed,
together with every Byzantine vote, *could* make a certificate counts as decided, whether or not
anybody ever assembles it.
"""

from __future__ import annotations

import random

from consensus import effects as fx
from consensus.messages import Evidence, NewView, PrePrepare, ViewChange, Vote
from consensus.succession import select
from protocol.records.batch import Certificate, Header
from protocol.records.checkpoint import CheckpointVote
from tests.simulation.plan import Plan
from tests.simulation.reference import Judge
from tests.simulation.signing import NETWORK

VOTE_RANGE = 256
VOTES_PER_SIGNER = 4
CHECKPOINTS_PER_SIGNER = 8
PROOFS_OF_SIGNER = 8
BODY_RANGE = 128


class Breach(AssertionError):  # noqa: N818 - a breach is what it is
    """An invariant does not hold. `rule` is its short name."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


def require(holds: bool, rule: str, detail: str = "") -> None:
    if not holds:
        raise Breach(rule, detail)


def signed_part(message) -> tuple:
    """What of a message its signer may say only once for its place."""
    if isinstance(message, Vote):
        return message.kind, message.digest
    if isinstance(message, CheckpointVote):
        return ("checkpoint", message.checkpoint.digest)
    return type(message).__name__, message.digest


class Checks:
    """The invariants of one network."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.byzantine = frozenset(plan.byzantine)
        self.judges: dict[int, Judge] = {}
        self.people: dict[int, list[int]] = {}
        self.parents: dict[bytes, bytes] = {}
        self.decided: dict[int, bytes] = {}
        self.stable: dict[int, bytes] = {}
        self.vows: dict[tuple, tuple] = {}
        self.commits: dict[tuple, set[int]] = {}
        self.prepared: dict[int, set[tuple]] = {}
        self.tips: dict[int, dict[int, bytes]] = {}
        """What each member has noted as decided."""
        self.floors: dict[int, tuple[int, int]] = {}
        self.good: set[tuple[str, Certificate]] = set()
        self.shuffle = random.Random(plan.seed)
        self.edges_by_plan = True
        """Whether epochs end where the plan says, and not where a replicated state does."""

    def judge(self, epoch: int) -> Judge:
        if epoch not in self.judges:
            self.judges[epoch] = Judge(self.plan.validators(epoch))
        return self.judges[epoch]

    def members(self, epoch: int) -> list[int]:
        """The members of an epoch's set, by index."""
        if epoch not in self.people:
            sets = self.plan.sets
            self.people[epoch] = [m for m, _ in sets[min(epoch, len(sets) - 1)]]
        return self.people[epoch]

    # --- certificates and the chain --------------------------------------------------------------

    def certificate(self, certificate: Certificate, kind: str) -> None:
        if (kind, certificate) in self.good:
            return
        header = certificate.header
        holds = self.judge(header.epoch).holds(certificate, kind)
        require(holds, "certificate", f"{kind} of slot {header.seq} view {certificate.view}")
        require(self.is_of(header), "epochs", f"slot {header.seq} is not of epoch {header.epoch}")
        self.good.add((kind, certificate))
        self.parents[header.digest] = header.parent
        if kind == "commit":
            self.decide(header.seq, header.digest)

    def is_of(self, header: Header) -> bool:
        """Whether a slot lies between the edges of its epoch."""
        length = self.plan.epoch_slots + self.plan.window
        if self.plan.epoch_slots == 0 or not self.edges_by_plan:
            return True
        return (header.seq - 1) // length == header.epoch

    def decide(self, seq: int, digest: bytes) -> None:
        known = self.decided.setdefault(seq, digest)
        require(known == digest, "agreement", f"two digests are decided at slot {seq}")

    def executed(self, replica, batch, certificate: Certificate) -> None:
        header = certificate.header
        self.certificate(certificate, "commit")
        chain = replica.chain
        require(header.seq == len(chain) + 1, "one chain", f"slot {header.seq} is out of order")
        parent = chain[-1][1].header.digest if chain else NETWORK
        require(header.parent == parent, "one chain", f"slot {header.seq} has another parent")
        require(batch.body_root() == header.body_root, "one chain", "another body")

    # --- what is made durable --------------------------------------------------------------------

    def persisted(self, replica, group: list) -> None:
        for record in group:
            if isinstance(record, fx.PersistNote) and isinstance(record.record, PrePrepare):
                header = record.record.header
                self.parents[header.digest] = header.parent
        for record in group:
            self._persisted(replica, record)

    def _persisted(self, replica, record) -> None:
        match record:
            case fx.PersistVow():
                self._vow(replica, record)
            case fx.PersistFloor(epoch, view):
                self._raise_floor(replica.member, epoch, view)
            case fx.PersistEpoch(certificate):
                self._raise_floor(replica.member, certificate.checkpoint.epoch + 1, 0)
            case fx.PersistNote(kind, epoch, view, seq, body):
                self._note(replica, kind, (epoch, view, seq), body)

    def _raise_floor(self, member: int, epoch: int, view: int) -> None:
        known = self.floors.get(member, (0, 0))
        require((epoch, view) >= known, "floor", f"{(epoch, view)} below {known}")
        self.floors[member] = (epoch, view)

    def _note(self, replica, kind: str, place: tuple, body) -> None:
        if kind == "prepared":
            self.certificate(body, "prepare")
            self.prepared.setdefault(replica.member, set()).add((*place, body.header.digest))
        elif kind == "tip":
            self.certificate(body, "commit")
            self.tips.setdefault(replica.member, {})[body.header.seq] = body.header.digest
        elif isinstance(body, NewView):
            self._new_view(replica, body)

    def _new_view(self, replica, message: NewView) -> None:
        changes = list(message.view_changes)
        for change in changes:
            self._change(change)
        base = replica.engine.core.epoch_base
        if replica.engine.core.voters.epoch == message.epoch:
            first = select(changes, base)
            above = first.base is None or first.base.header.seq > base[0]
            require(above, "selection", f"view {message.view} starts below its epoch")
            self.shuffle.shuffle(changes)
            same = select(changes, base)
            require(first.headers == same.headers, "selection order", "headers differ")
            tips = [s.base.header.digest if s.base else None for s in (first, same)]
            require(tips[0] == tips[1], "selection order", "bases differ")

    def _change(self, change: ViewChange) -> None:
        if change.tip is not None:
            self.certificate(change.tip, "commit")
        for certificate in change.prepared:
            self.certificate(certificate, "prepare")

    def _vow(self, replica, vow: fx.PersistVow) -> None:
        member, message = replica.member, vow.message
        key = (member, vow.phase, vow.epoch, vow.view, vow.seq)
        part = signed_part(message)
        require(self.vows.setdefault(key, part) == part, "signed twice", f"{key}")
        if vow.phase == "checkpoint":
            return
        floor = self.floors.get(member, (0, 0))
        require((vow.epoch, vow.view) >= floor, "below the floor", f"{key}, floor {floor}")
        if vow.phase == "commit":
            self._commit(replica, message)
        elif isinstance(message, ViewChange):
            self._raise_floor(member, vow.epoch, vow.view)
            self._change(message)
        elif isinstance(message, Vote) and message.kind == "prepare":
            self._approve(replica, message)

    def _approve(self, replica, vote: Vote) -> None:
        """An approval extends what its signer approved in this view, or knows decided, before."""
        parent = self.parents.get(vote.digest)
        before = (replica.member, "prepare", vote.epoch, vote.view, vote.seq - 1)
        extends = self.vows.get(before) == ("prepare", parent)
        extends = extends or self.is_decided(replica, vote.seq - 1, parent)
        require(extends, "one chain", f"approval of slot {vote.seq} view {vote.view} on nothing")

    def _commit(self, replica, vote: Vote) -> None:
        member = replica.member
        place = (vote.epoch, vote.view, vote.seq, vote.digest)
        if not self.is_ancestor(member, vote.seq, vote.digest):
            self._is_prepared_and_ordered(replica, vote)
        signers = self.commits.setdefault(place, set())
        signers.add(member)
        people = self.members(vote.epoch)
        able = [i for i, m in enumerate(people) if m in signers or m in self.byzantine]
        if self.judge(vote.epoch).is_quorum(able):
            self.decide(vote.seq, vote.digest)

    def _is_prepared_and_ordered(self, replica, vote: Vote) -> None:
        member, place = replica.member, (vote.epoch, vote.view, vote.seq, vote.digest)
        require(place in self.prepared.get(member, ()), "unprepared commit", f"{place[:3]}")
        before = self.vows.get((member, "commit", vote.epoch, vote.view, vote.seq - 1))
        parent = self.parents.get(vote.digest)
        ordered = before == ("commit", parent) or self.is_decided(replica, vote.seq - 1, parent)
        require(ordered, "unordered commit", f"slot {vote.seq} view {vote.view}")

    def is_ancestor(self, member: int, seq: int, digest: bytes) -> bool:
        """Whether a slot that this member knows decided has `digest` among its ancestors."""
        for above, found in self.tips.get(member, {}).items():
            if above <= seq:
                continue
            for _ in range(above - seq):
                found = self.parents.get(found)
            if found == digest:
                return True
        return False

    def is_decided(self, replica, seq: int, digest: bytes | None) -> bool:
        """Whether this replica knows `digest` decided at `seq`."""
        if seq == 0:
            return digest == NETWORK
        if seq <= len(replica.chain):
            return replica.chain[seq - 1][1].header.digest == digest
        return self.tips.get(replica.member, {}).get(seq) == digest

    # --- what leaves, and what is reported -------------------------------------------------------

    def sent(self, replica, message) -> None:
        if isinstance(message, Vote):
            phase = "commit" if message.kind == "commit" else "prepare"
            self._is_vowed(replica, phase, message.epoch, message.view, message.seq, message)
        elif isinstance(message, PrePrepare):
            if self.members(message.vote.epoch)[message.vote.signer] == replica.member:
                self.sent(replica, message.vote)
        elif isinstance(message, ViewChange):
            self._is_vowed(replica, "view-change", message.epoch, message.view, 0, message)
        elif isinstance(message, CheckpointVote):
            at = message.checkpoint
            self._is_vowed(replica, "checkpoint", at.epoch, 0, at.seq, message)
        elif isinstance(message, Evidence):
            self.reported(message.first, message.second)

    def _is_vowed(self, replica, phase, epoch, view, seq, message) -> None:
        known = self.vows.get((replica.member, phase, epoch, view, seq))
        require(known == signed_part(message), "sent before durable", f"{phase} {view} {seq}")

    def reported(self, first: Vote, second: Vote) -> None:
        subject = self.members(first.epoch)[first.signer]
        require(subject in self.byzantine, "evidence", f"against honest m{subject}")
        require(first.signer == second.signer, "evidence", "of two signers")

    def made_stable(self, certificate) -> None:
        checkpoint = certificate.checkpoint
        known = self.stable.setdefault(checkpoint.seq, checkpoint.digest)
        require(known == checkpoint.digest, "checkpoints", f"two at {checkpoint.seq}")
        decided = self.decided.get(checkpoint.seq)
        require(decided == checkpoint.chain_hash, "checkpoints", f"{checkpoint.seq} is no slot")

    # --- every step ------------------------------------------------------------------------------

    def stepped(self, before: tuple, after: tuple, where: str) -> None:
        """`before` and `after` are `marks` of one replica."""
        require(after[0] >= before[0], f"{where}: epoch or view fell", f"{before} -> {after}")
        for name, old, new in zip(
            ("tip", "watermark", "height"), before[1:], after[1:], strict=True
        ):
            require(new >= old, f"{where}: {name} fell", f"{before} -> {after}")

    def bounded(self, engine) -> None:
        """Memory: what one replica holds, whoever floods it."""
        core, n = engine.core, len(engine.core.voters)
        open_slots = VOTE_RANGE + core.tip_seq - core.height
        require(len(core.slots) <= open_slots, "bound", f"{len(core.slots)} slots")
        require(len(core.view_changes) <= n, "bound", "view changes")
        proofs = max(map(len, core.known_evidence.values()), default=0)
        require(proofs <= PROOFS_OF_SIGNER, "bound", f"{proofs} proofs against one signer")
        require(not core.contradictions, "bound", "contradictions")
        for change in core.view_changes.values():
            require(len(change.prepared) <= core.parameters.window, "bound", "certificates")
        held = sum(map(len, core.checkpoint_votes.values()))
        require(held <= CHECKPOINTS_PER_SIGNER * n, "bound", f"{held} checkpoint votes")
        for seq, slot in core.slots.items():
            bodies = len(slot.bodies)  # at most one proposal of each view's primary
            require(bodies <= core.view + 1, "bound", f"{bodies} bodies in {seq}")
            far = seq <= core.tip_seq and seq > core.height + BODY_RANGE
            require(not (far and bodies), "bound", f"a body far above the height, in {seq}")
            for ballots in (slot.approvals, slot.commits):
                votes = sum(map(len, ballots._votes.values()))
                require(votes <= VOTES_PER_SIGNER * n, "bound", f"{votes} ballots in {seq}")


def marks(engine) -> tuple:
    """What may never fall: (epoch, view), tip, watermark, height."""
    core = engine.core
    return (core.voters.epoch, core.view), core.tip_seq, core.stable_seq, core.height
