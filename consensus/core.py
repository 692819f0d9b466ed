"""The state of one replica, and the few ways in which everything else may change it.

Vocabulary: *tip* is the last slot known decided, *height* the last one whose batch was handed over
for execution (the tip may be ahead of it while bodies are fetched), *base* the slot the current
view starts above, *view* the highest view entered or asked for (the floor, rule 7), *changing*
whether the replica has left the views below it but not yet seen its NEW-VIEW.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.ballots import Ballots
from consensus.certificate import Verify, judge_certificate
from consensus.effects import Broadcast, Effect, PersistFloor, PersistNote, PersistVow, VowKind
from consensus.inputs import Edge
from consensus.messages import NewView, PrePrepare, ViewChange, Vote
from consensus.validators import Voters
from protocol.codec import encode, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.errors import ProtocolError
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate, CheckpointVote
from protocol.records.genesis import Parameters

VOTE_RANGE = 256
"""Votes are stored for this many slots above the tip (rule 4)."""
BODY_RANGE = 128
"""Bodies of decided slots are kept for so many above the height: two answers to a STATUS. Others
are fetched in their turn, or a laggard would hold everything that is decided meanwhile."""
CERTIFICATE_MEMO = 1024

Sign = Callable[[bytes], bytes]


class UnwantedError(ProtocolError):
    """A message that must change nothing. `reason` is the counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Slot:
    """What is known of one undecided or unexecuted sequence number."""

    headers: dict[bytes, Header] = field(default_factory=dict)
    bodies: dict[bytes, Batch] = field(default_factory=dict)
    approvals: Ballots = field(default_factory=Ballots)
    """PREPAREs and REJECTs."""
    commits: Ballots = field(default_factory=Ballots)
    prepared: Certificate | None = None
    """The prepared certificate of the highest view."""
    decided: Certificate | None = None
    # The rest belongs to the current view and is cleared when it changes.
    proposal: PrePrepare | None = None
    checking: bool = False
    accepted: bytes | None = None
    committed: bytes | None = None
    rejected: bool = False

    def leave_view(self) -> None:
        """Forget what only the old view meant."""
        self.proposal = None
        self.checking = False
        self.accepted = None
        self.committed = None
        self.rejected = False


class Core:
    """One replica's state. Functions of the sibling modules read and change it."""

    def __init__(
        self,
        voters: Voters,
        me: int | None,
        sign: Sign,
        verify: Verify,
        parameters: Parameters,
        genesis_digest: bytes,
        key: bytes | None = None,
        signs_from: int = 0,
    ) -> None:
        self.voters = voters
        self.key = key if me is None else voters.key(me)
        """Own consensus key: a later set may give it another index, or none."""
        self.signs_from = signs_from
        """The first epoch in which the key may sign."""
        self.me = None if voters.epoch < signs_from else me
        """Own index; None for an observer (rule 8)."""
        self.verify = verify
        self.parameters = parameters
        self.view = 0
        self.changing = False
        self.base_seq = 0
        self.tip_seq, self.tip_digest = 0, genesis_digest
        self.tip_certificate: Certificate | None = None
        self.height, self.height_digest = 0, genesis_digest
        self.asked = 0  # the height in the last own STATUS
        self.executed = 0  # the last slot that the driver has executed
        self.delivered: dict[int, bytes] = {}
        """Digests of slots handed over and not yet executed."""
        self.epoch_base = (0, genesis_digest)
        """The slot the epoch starts above, and its digest."""
        self.edge: Edge | None = None
        self.stable: CheckpointCertificate | None = None
        self.checkpoint_votes: dict[int, dict[int, CheckpointVote]] = {}
        self.own_checkpoints: dict[int, Checkpoint] = {}
        self.old_sets: dict[int, Voters] = {}
        self.handovers: dict[int, CheckpointCertificate] = {}  # at the edges of former epochs
        self.contradictions: list[tuple[Vote, Vote]] = []
        """Verified contradicting votes, not yet reported."""
        self.known_evidence: dict[int, set[tuple[int, int, int, int, bool]]] = {}
        self.slots: dict[int, Slot] = {}
        self.view_changes: dict[int, ViewChange] = {}
        self.new_view: NewView | None = None
        self.pending = False
        self.own_view_change: ViewChange | None = None
        self.rotation = 0
        self._sign = sign
        self._outbox: list[Effect] = []
        self._judged: dict[bytes, None] = {}

    # --- effects -----------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        """Append an effect."""
        self._outbox.append(effect)

    def take_effects(self) -> list[Effect]:
        """Return the effects gathered since the last call."""
        effects, self._outbox = self._outbox, []
        return effects

    # --- epochs ------------------------------------------------------------------------------

    @property
    def stable_seq(self) -> int:
        """The sequence of the last stable checkpoint: h of the paper."""
        return self.stable.checkpoint.seq if self.stable else 0

    @property
    def last_open(self) -> int:
        """The last slot that may be proposed or freshly approved now (rules 4, 6, 12)."""
        parameters = self.parameters
        last = min(
            self.tip_seq + parameters.window,
            self.executed + parameters.window,
            self.base_seq + parameters.term,
        )
        return last if self.edge is None else min(last, self.edge.seq)

    def own_index(self, voters: Voters) -> int | None:
        """Return the index under which this replica signs in a set, None if it does not."""
        if self.key is None or voters.epoch < self.signs_from:
            return None
        return voters.index_of_key(self.key)

    def voters_of(self, epoch: int) -> Voters:
        """Return the set of an epoch; `UnwantedError` for one that is not known here."""
        if epoch == self.voters.epoch:
            return self.voters
        if epoch not in self.old_sets:
            raise UnwantedError("wrong_epoch")
        return self.old_sets[epoch]

    # --- slots -------------------------------------------------------------------------------

    def slot(self, seq: int) -> Slot:
        """Return the slot of `seq`, made on first use."""
        return self.slots.setdefault(seq, Slot())

    def digest_at(self, seq: int) -> bytes | None:
        """Return the digest decided at `seq`, else the one accepted in this view (rule 4)."""
        if seq == self.tip_seq:
            return self.tip_digest
        slot = self.slots.get(seq)
        if slot is None:
            return None
        if slot.decided is not None:
            return slot.decided.header.digest
        return slot.accepted if seq > self.tip_seq else None

    def highest_accepted(self) -> int:
        """Return the last slot with a proposal accepted in this view, or the tip or base."""
        accepted = [seq for seq, slot in self.slots.items() if slot.accepted is not None]
        return max(self.tip_seq, self.base_seq, *accepted)

    # --- signing (rules 3 and 7) -----------------------------------------------------------

    def signature(self, kind: VoteKind, view: int, seq: int, digest: bytes) -> bytes:
        """Return this validator's signature over a vote."""
        if self.me is None:
            raise AssertionError("an observer never signs")
        return self._sign(
            vote_payload(
                self.voters.domain,
                kind,
                view=view,
                seq=seq,
                digest=digest,
                signer=self.voters.key(self.me),
            )
        )

    def check_signature(
        self, kind: VoteKind, signer: int, view: int, seq: int, digest: bytes, signature: bytes
    ) -> None:
        """Raise `UnwantedError` unless validator `signer` signed this vote."""
        if signer >= len(self.voters):
            raise UnwantedError("unknown_signer")
        key = self.voters.key(signer)
        payload = vote_payload(
            self.voters.domain, kind, view=view, seq=seq, digest=digest, signer=key
        )
        if not self.verify(key, payload, signature):
            raise UnwantedError("bad_signature")

    def check_certificate(self, certificate: Certificate, kind: str) -> None:
        """Raise `ProofError` unless the certificate holds; its signatures are verified once.

        Its slot is looked at each time: where an epoch ends becomes known later.
        """
        header = certificate.header
        voters = self.voters_of(header.epoch)
        if voters is self.voters and self.edge is not None:
            voters = voters.ending(self.edge.seq)
        voters.check_decides(header.seq)
        memo = sha256(kind.encode(), encode(certificate))
        if memo in self._judged:
            return
        wanted = "prepare" if kind == "prepare" else "commit"
        judge_certificate(voters, certificate, wanted, self.verify)  # type: ignore[arg-type]
        if len(self._judged) >= CERTIFICATE_MEMO:
            self._judged.pop(next(iter(self._judged)))
        self._judged[memo] = None

    def make_vote(self, kind: VoteKind, seq: int, digest: bytes, reason: str = "") -> Vote:
        """Sign a vote of the current view, count it, and make its vow durable before it leaves."""
        window = self.parameters.window
        if self.me is None or not self.tip_seq - window < seq <= self.tip_seq + window:
            raise AssertionError(f"slot {seq} is outside the window around {self.tip_seq}")
        vote = Vote(
            kind=kind.value,  # type: ignore[arg-type]
            epoch=self.voters.epoch,
            view=self.view,
            seq=seq,
            digest=digest,
            signer=self.me,
            signature=self.signature(kind, self.view, seq, digest),
            reason=reason,
        )
        slot = self.slot(seq)
        ballots = slot.commits if kind is VoteKind.COMMIT else slot.approvals
        if ballots.add(vote) is not None:
            raise AssertionError(f"about to sign a second {kind} for view {self.view} slot {seq}")
        phase: VowKind = "commit" if kind is VoteKind.COMMIT else "prepare"
        self.emit(PersistVow(phase, self.voters.epoch, self.view, seq, vote))
        return vote

    def cast(self, kind: VoteKind, seq: int, digest: bytes, reason: str = "") -> None:
        """Sign and broadcast a vote; an observer does nothing."""
        if self.me is not None:
            self.emit(Broadcast(self.make_vote(kind, seq, digest, reason)))

    # --- views and tips ----------------------------------------------------------------------

    def enter(self, view: int, *, changing: bool) -> None:
        """Make `view` the floor (durably) and forget what belonged to the old one."""
        if view < self.view:
            raise AssertionError(f"view {view} is below the floor {self.view}")
        self.view = view
        self.changing = changing
        self.emit(PersistFloor(self.voters.epoch, view))
        for slot in self.slots.values():
            slot.leave_view()

    def adopt_tip(self, certificate: Certificate) -> None:
        """Take a valid commit certificate above the tip as the new tip (durably)."""
        header = certificate.header
        if header.seq <= self.tip_seq:
            return
        slot = self.slot(header.seq)
        slot.headers[header.digest] = header
        slot.decided = certificate
        passed = range(max(self.tip_seq, self.height + BODY_RANGE) + 1, header.seq + 1)
        self.tip_seq, self.tip_digest = header.seq, header.digest
        self.tip_certificate = certificate
        self.emit(PersistNote("tip", header.epoch, certificate.view, header.seq, certificate))
        for slot in filter(None, map(self.slots.get, passed)):
            slot.bodies.clear()
            slot.proposal = None

    def holds_body(self, seq: int) -> bool:
        """Return whether the body of a decided slot is kept here (`BODY_RANGE`)."""
        return seq <= self.height + BODY_RANGE

    def forget_executed(self) -> None:
        """Drop the slots at or below the height; the ledger holds them now."""
        for seq in [seq for seq in self.slots if seq <= self.height]:
            del self.slots[seq]

    def next_peer(self, avoid: int | None = None) -> int | None:
        """Return the validator to ask next, in rotation; None if there is nobody else."""
        for _ in range(len(self.voters)):
            self.rotation = (self.rotation + 1) % len(self.voters)
            if self.rotation not in (self.me, avoid):
                return self.rotation
        return None
