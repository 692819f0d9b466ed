"""Words: how a message or an effect reads in a script.

Every digest has a name: a batch's name stands for the header that carries it, with a prime for each
further header of the same batch. Epoch 0 goes without saying.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus import effects as fx
from consensus import messages as ms
from consensus.certificate import signers_of_bitmap
from consensus.validators import Voters
from protocol.codec import sha256
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate, CheckpointVote
from tests.consensus.builders import GENESIS, key_of, make_batch


class Words:
    """The names that one script uses."""

    def __init__(self) -> None:
        self.sets: dict[int, Voters] = {}
        self.members: dict[bytes, str] = {key_of(chr(65 + i)): chr(65 + i) for i in range(26)}
        self._batches: dict[bytes, str] = {}
        self._headers: dict[bytes, str] = {GENESIS: "genesis"}
        self.by_name: dict[str, Header] = {}

    # --- names -------------------------------------------------------------------------------

    def batch(self, name: str) -> Batch:
        batch = make_batch(name)
        self._batches[batch.body_root()] = name
        return batch

    def batch_name(self, batch: Batch) -> str:
        return self._batches.get(batch.body_root(), "?")

    def learn(self, header: Header) -> str:
        """Return the header's name, given on first sight."""
        if header.digest not in self._headers:
            name = self._batches.get(header.body_root, "?")
            while name in self.by_name:
                name += "'"
            self._headers[header.digest] = name
            self.by_name[name] = header
        return self._headers[header.digest]

    def header(self, digest: bytes) -> str:
        return self._headers.get(digest, "?")

    def member(self, index: int, epoch: int) -> str:
        voters = self.sets[epoch]
        return self.members[voters.key(index)] if index < len(voters) else f"#{index}"

    def signers(self, bits: bytes, count: int, epoch: int) -> str:
        size = len(self.sets[epoch])
        return ", ".join(self.member(i, epoch) for i in signers_of_bitmap(bits, count, size))

    # --- messages ----------------------------------------------------------------------------

    def place(self, epoch: int, view: int, seq: int | None = None) -> str:
        words = [f"epoch {epoch}"] if epoch else []
        words.append(f"view {view}")
        if seq is not None:
            words.append(f"slot {seq}")
        return " ".join(words)

    def certificate(self, proof: Certificate) -> str:
        name, header = self.learn(proof.header), proof.header
        signers = self.signers(proof.signers, len(proof.signatures), header.epoch)
        return f"{self.place(header.epoch, proof.view, header.seq)} {name} by {signers}"

    def checkpoint(self, checkpoint: Checkpoint) -> str:
        words = f"slot {checkpoint.seq}"
        if checkpoint.state_root != sha256(b"state", checkpoint.chain_hash):
            words += " with another state"
        if checkpoint.next_set is not None:
            names = (self.members[m.consensus_key] for m in checkpoint.next_set.members)
            words += f" handing over to {', '.join(names)}"
        return words

    def vote(self, vote: ms.Vote) -> str:
        place = self.place(vote.epoch, vote.view, vote.seq)
        words = f"{vote.kind.upper()} {place} {self.header(vote.digest)}"
        return f"{words} ({vote.reason})" if vote.reason else words

    def view_change(self, change: ms.ViewChange) -> str:
        words = f"VIEW-CHANGE {self.place(change.epoch, change.view)}"
        if change.tip is not None:
            words += f" tip slot {change.tip.header.seq} {self.learn(change.tip.header)}"
        for proof in change.prepared:
            name = self.learn(proof.header)
            words += f" prepared slot {proof.header.seq} {name} of view {proof.view}"
        return words

    def message(self, message: ms.Message) -> str:
        match message:
            case ms.Vote():
                return self.vote(message)
            case ms.PrePrepare(vote=vote, header=header):
                name = self.learn(header)
                place = self.place(vote.epoch, vote.view, header.seq)
                return f"proposal {place} {name} after {self.header(header.parent)}"
            case ms.ViewChange():
                return self.view_change(message)
            case ms.NewView(epoch=epoch, view=view, view_changes=changes):
                names = ", ".join(self.member(change.signer, epoch) for change in changes)
                return f"NEW-VIEW {self.place(epoch, view)} by {names}"
            case CheckpointVote(checkpoint=checkpoint):
                return f"CHECKPOINT {self.checkpoint(checkpoint)}"
            case CheckpointCertificate():
                return self.stable(message)
            case ms.Status(epoch=epoch, view=view, changing=changing, height=height):
                changes = " changing" if changing else ""
                return f"STATUS {self.place(epoch, view)}{changes} height {height}"
            case ms.FetchBatch(seq=seq, digest=digest):
                return f"FETCH slot {seq} {self.header(digest)}"
            case ms.BatchBody(header=header):
                return f"BATCH slot {header.seq} {self.learn(header)}"
            case ms.DecidedSlot(certificate=proof):
                return f"DECIDED {self.certificate(proof)}"
            case ms.Evidence(first=first, second=second):
                return f"EVIDENCE {self.against(first, second)}"
        raise AssertionError(f"no words for {message!r}")

    def stable(self, proof: CheckpointCertificate) -> str:
        checkpoint = proof.checkpoint
        signers = self.signers(proof.signers, len(proof.signatures), checkpoint.epoch)
        return f"stable checkpoint {self.checkpoint(checkpoint)} by {signers}"

    def against(self, first: ms.Vote, second: ms.Vote) -> str:
        name = self.member(first.signer, first.epoch)
        return f"against {name}: {self.vote(first)} and {self.vote(second)}"

    def signer(self, message: ms.Message) -> str | None:
        """Return who signed a message, None for one that nobody signs."""
        match message:
            case ms.Vote() | ms.ViewChange() | ms.NewView():
                return self.member(message.signer, message.epoch)
            case ms.PrePrepare(vote=vote):
                return self.member(vote.signer, vote.epoch)
            case CheckpointVote(checkpoint=checkpoint, signer=signer):
                return self.member(signer, checkpoint.epoch)
        return None

    # --- effects -----------------------------------------------------------------------------

    def note(self, note: fx.PersistNote) -> str:
        record = note.record
        if isinstance(record, Certificate):
            kind = "commit" if note.kind == "tip" else "prepared"
            return f"{kind} certificate {self.certificate(record)}"
        return self.message(record)

    def effect(self, effect: fx.Effect, peers: Voters) -> str:
        """Return what a replica does, without its name; `peers` is its set."""
        match effect:
            case fx.PersistVow(message=message):
                return f"persists own {self.message(message)}"
            case fx.PersistFloor(epoch=epoch, view=view):
                return f"persists floor {self.place(epoch, view)}"
            case fx.PersistEpoch(certificate=proof):
                return f"persists the {self.stable(proof)}"
            case fx.PersistNote():
                return f"persists {self.note(effect)}"
            case fx.Broadcast(message):
                return f"sends {self.message(message)} to everybody"
            case fx.Send(peer, message):
                return f"sends {self.message(message)} to {self.peer(peer, peers)}"
            case fx.SendDecided(peer, first, last):
                slots = f"slot {first}" if first == last else f"slots {first} to {last}"
                return f"sends the decided {slots} to {self.peer(peer, peers)}"
            case fx.SendBody(peer, seq, digest):
                body = f"slot {seq} {self.header(digest)}"
                return f"sends the stored body of {body} to {self.peer(peer, peers)}"
            case fx.SendCheckpoint(peer, epoch):
                return f"sends the stored edge of epoch {epoch} to {self.peer(peer, peers)}"
        return self._outcome(effect)

    def _outcome(self, effect: fx.Effect) -> str:
        match effect:
            case fx.CheckBatch(seq=seq, batch=batch):
                return f"checks {self.batch_name(batch)} for slot {seq}"
            case fx.Decide(certificate=proof):
                place = self.place(proof.header.epoch, proof.view)
                return f"decides slot {proof.header.seq} {self.learn(proof.header)} of {place}"
            case fx.Stable(certificate=proof):
                return f"holds the {self.stable(proof)}"
            case fx.EpochBegan(voters, me):
                names = ", ".join(self.members[member.consensus_key] for member in voters.members)
                role = "" if me is not None else " without a vote"
                return f"begins epoch {voters.epoch} of {names}{role}"
            case fx.Diverged(seq=seq):
                return f"finds its state at slot {seq} different from a quorum's and stops voting"
            case fx.SetTimer(timer, delay):
                return f"sets {timer.value} {delay} ms"
            case fx.CancelTimer(timer):
                return f"stops {timer.value}"
            case fx.Report(first, second):
                return f"reports {self.against(first, second)}"
            case fx.Refused(reason=reason):
                return f"refuses it: {reason}"
        raise AssertionError(f"no words for {effect!r}")

    def peer(self, index: int, peers: Voters) -> str:
        return self.members[peers.key(index)]


def listed(names: Iterable[str]) -> str:
    """Return names as an English list."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
