"""What Byzantine members do: messages bent on their way out, and messages made of nothing.

Everything here is signed with Byzantine keys alone; where a message names somebody else as signer,
the signature is wrong and must be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consensus.messages import (
    DecidedSlot,
    Evidence,
    NewView,
    NewViewContent,
    PrePrepare,
    Status,
    ViewChange,
    Vote,
)
from consensus.succession import select
from protocol.codec import digest_of, sha256
from protocol.records.batch import Certificate, Header
from protocol.records.checkpoint import CheckpointVote
from tests.simulation.false_proofs import (
    epoch_start,
    false_change,
    former_members_decide,
    lone_checkpoint,
    make_change,
)
from tests.simulation.signing import GENESIS_ROOT, NETWORK, Body

if TYPE_CHECKING:
    from tests.simulation.byzantine import Coalition, Traitor

WRONG = bytes(64)
"""A signature that nobody made."""


# --- bending what the own engine says ------------------------------------------------------------


def bend(coalition: Coalition, traitor: Traitor, member: int, message) -> list:
    """Return what really goes to `member`."""
    habits, rng = coalition.habits, coalition.rng
    epoch = getattr(message, "epoch", None)
    if isinstance(message, PrePrepare | NewView) and not is_ours(coalition, message):
        return [message]  # somebody else's, passed on
    match message:
        case PrePrepare() if "equivocate" in habits:
            return [other_proposal(coalition, message) if member % 2 else message]
        case PrePrepare() if "bad-batch" in habits:
            key = ("misplaced", message.vote.view, message.vote.seq)
            if key not in coalition.made:
                bad = rng.random() < 0.3
                coalition.made[key] = misplaced(coalition, message) if bad else message
            return [coalition.made[key]]
        case Vote() if "spoof" in habits and rng.random() < 0.1:
            return [spoilt(coalition, message)]
        case ViewChange() if "false-proof" in habits and rng.random() < 0.5:
            return [false_change(coalition, message) or message]
        case ViewChange() if "stale-change" in habits:
            return [stale_change(coalition, epoch, message.view, message.signer) or message]
        case NewView() if "lying-view" in habits:
            return [other_new_view(coalition, message) if member % 2 else message]
        case CheckpointVote(checkpoint=at) if "wrong-root" in habits:
            at = msgspec.structs.replace(at, state_root=sha256(at.state_root, bytes([member % 2])))
            signature = coalition.sign(at.epoch, message.signer, "checkpoint", 0, at.seq, at.digest)
            return [CheckpointVote(checkpoint=at, signer=message.signer, signature=signature)]
        case Status() if "forge" in habits and rng.random() < 0.3:
            return [msgspec.structs.replace(message, height=rng.randint(0, message.height + 9))]
    return [message]


def is_ours(coalition: Coalition, message: PrePrepare | NewView) -> bool:
    signed = message.vote if isinstance(message, PrePrepare) else message
    return signed.signer in coalition.traitors(signed.epoch)


def other_proposal(coalition: Coalition, message: PrePrepare) -> PrePrepare:
    """The same slot with another batch, on the other batch of the slot before if there was one."""
    vote, header = message.vote, message.header
    body = Body(message.batch.state_root, sha256(header.digest))
    parent = coalition.others.get((vote.view, header.parent), header.parent)
    changed = msgspec.structs.replace(header, parent=parent)
    made = proposal(coalition, vote.view, changed, vote.signer, body)
    coalition.others[vote.view, header.digest] = made.header.digest
    return made


def misplaced(coalition: Coalition, message: PrePrepare) -> PrePrepare:
    """The batch on a parent that is not the slot before."""
    parent = coalition.rng.choice((NETWORK, *coalition.headers))
    header = msgspec.structs.replace(message.header, parent=parent)
    return proposal(coalition, message.vote.view, header, message.vote.signer, message.batch)


def proposal(coalition: Coalition, view: int, header: Header, signer: int, body: Body):
    header = msgspec.structs.replace(header, body_root=body.body_root())
    coalition.headers[header.digest] = header
    coalition.bodies[header.digest] = body
    vote = coalition.vote("prepare", header.epoch, view, header.seq, header.digest, signer)
    return PrePrepare(vote=vote, header=header, batch=body)


def spoilt(coalition: Coalition, vote: Vote) -> Vote:
    """A vote whose signature does not hold, or that names somebody else."""
    if coalition.rng.random() < 0.5:
        return msgspec.structs.replace(vote, signature=WRONG)
    other = coalition.rng.randrange(len(coalition.voters(vote.epoch)))
    return msgspec.structs.replace(vote, signer=other)


def stale_change(coalition: Coalition, epoch: int, view: int, signer: int) -> ViewChange | None:
    """A valid view change that knows less, or older things, than we do."""
    rng, window = coalition.rng, coalition.network.plan.window
    tips = [
        certificate
        for (e, kind, _), found in coalition.certificates.items()
        if e == epoch and kind == "commit"
        for certificate in found.values()
    ]
    tip = rng.choice([None, *tips[-4:]])
    first = tip.header.seq if tip else epoch_start(coalition, epoch)[0]
    prepared = []
    for seq in range(first + 1, first + window + 1):
        found = coalition.certificates.get((epoch, "prepare", seq), {})
        older = [certificate for (v, _), certificate in sorted(found.items()) if v < view]
        if older and rng.random() < 0.7:
            prepared.append(older[0] if rng.random() < 0.6 else rng.choice(older))
    return make_change(coalition, epoch, view, signer, tip, tuple(prepared))


def other_new_view(coalition: Coalition, message: NewView) -> NewView:
    """Another opening of the same view: another quorum, or view changes nobody signed so."""
    rng, voters = coalition.rng, coalition.voters(message.epoch)
    chosen = {change.signer: change for change in message.view_changes}
    for change in coalition.changes[message.epoch, message.view].values():
        if rng.random() < 0.5:
            chosen[change.signer] = change
    for signer in coalition.traitors(message.epoch):
        made = stale_change(coalition, message.epoch, message.view, signer)
        if made is not None and rng.random() < 0.7:
            chosen[signer] = made
    kept = dict(sorted(chosen.items()))
    for signer in rng.sample(sorted(kept), len(kept)):
        rest = [s for s in kept if s != signer]
        if voters.is_quorum(rest):
            del kept[signer]
    if "forge" in coalition.habits or rng.random() < 0.3:
        kept = {
            s: msgspec.structs.replace(c, tip=None, prepared=()) if rng.random() < 0.6 else c
            for s, c in kept.items()
        }
    return sign_new_view(coalition, message.epoch, message.view, message.signer, kept.values())


def sign_new_view(coalition: Coalition, epoch: int, view: int, signer: int, changes) -> NewView:
    content = NewViewContent(view_changes=tuple(changes))
    signature = coalition.sign(epoch, signer, "new-view", view, 0, digest_of(content))
    return NewView(
        epoch=epoch, view=view, view_changes=content.view_changes, signer=signer,
        signature=signature,
    )  # fmt: skip


# --- provoked by what comes in -------------------------------------------------------------------


def provoke(coalition: Coalition, traitor: Traitor, message) -> None:
    """React to a message that reached one of us."""
    habits, rng = coalition.habits, coalition.rng
    if "double-vote" in habits and isinstance(message, Vote | PrePrepare):
        double_vote(coalition, message.vote if isinstance(message, PrePrepare) else message)
    if "lying-view" in habits and isinstance(message, ViewChange):
        lie_about_view(coalition, message)
    if "replay" in habits and coalition.heard and rng.random() < 0.2:
        replay(coalition, traitor)
    if "flood" in habits and rng.random() < 0.05:
        flood(coalition)
    if "forge" in habits and rng.random() < 0.2:
        forge(coalition, traitor, message)
    if "false-proof" in habits and isinstance(message, Vote) and rng.random() < 0.05:
        lone_checkpoint(coalition, traitor)
    if "former" in habits and isinstance(message, Vote) and rng.random() < 0.1:
        former_members_decide(coalition, traitor)
    if "hurry" in habits and isinstance(message, Vote) and rng.random() < 0.2:
        hurry(coalition, message)


def double_vote(coalition: Coalition, vote: Vote) -> None:
    """Vote for whatever is proposed, in both phases, whoever has already heard otherwise."""
    if vote.kind == "reject":
        return
    for signer in coalition.traitors(vote.epoch):
        for kind in ("prepare", "commit"):
            place = (kind, vote.epoch, vote.view, vote.seq, vote.digest, signer)
            if place not in coalition.said:
                coalition.said.add(place)
                said = coalition.vote(*place)
                coalition.say(vote.epoch, signer, said, coalition.some())


def lie_about_view(coalition: Coalition, change: ViewChange) -> None:
    """Open a view we lead from view changes of our choosing, and propose on top of that."""
    epoch, view = change.epoch, change.view
    voters = coalition.voters(epoch)
    leader = voters.primary(view)
    if leader not in coalition.traitors(epoch):
        return
    changes = {c.signer: c for c in coalition.changes[epoch, view].values()}
    for signer in coalition.traitors(epoch):
        made = stale_change(coalition, epoch, view, signer)
        if made is not None:
            changes[signer] = made
    if not voters.is_quorum(changes):
        if "forge" not in coalition.habits:
            return
        for signer in range(len(voters)):
            forged = msgspec.structs.replace(change, signer=signer, tip=None, prepared=())
            changes.setdefault(signer, forged)
    ordered = [changes[signer] for signer in sorted(changes)]
    opening = sign_new_view(coalition, epoch, view, leader, ordered)
    victims = coalition.some()
    coalition.say(epoch, leader, opening, victims)
    follow_up(coalition, opening, victims)


def follow_up(coalition: Coalition, opening: NewView, victims: list[int]) -> None:
    """Propose the slot after what an opening selects, and vote for all of it."""
    start = epoch_start(coalition, opening.epoch)
    selection = select(opening.view_changes, start)
    seq, parent = (
        (selection.base.header.seq, selection.base.header.digest) if selection.base else start
    )
    for header in selection.headers:
        seq, parent = header.seq, header.digest
        for signer in coalition.traitors(opening.epoch):
            vote = coalition.vote(
                "prepare", opening.epoch, opening.view, seq, header.digest, signer
            )
            coalition.say(opening.epoch, signer, vote, victims)
    fresh = Header(epoch=opening.epoch, seq=seq + 1, parent=parent, body_root=bytes(32))
    root = coalition.network.coalition_root(seq + 1)
    body = Body(root, coalition.network.nonce())
    made = proposal(coalition, opening.view, fresh, opening.signer, body)
    coalition.say(opening.epoch, opening.signer, made, victims)
    for signer in coalition.traitors(opening.epoch):
        if signer != opening.signer:
            vote = coalition.vote(
                "prepare", opening.epoch, opening.view, seq + 1, made.header.digest, signer
            )
            coalition.say(opening.epoch, signer, vote, victims)


def replay(coalition: Coalition, traitor: Traitor) -> None:
    """Say again what was said, also by others, perhaps with another view or epoch on it."""
    rng = coalition.rng
    message = rng.choice(coalition.heard)
    if isinstance(message, Vote | ViewChange | NewView) and rng.random() < 0.5:
        field = rng.choice(("view", "epoch"))
        value = max(0, getattr(message, field) + rng.choice((-1, 1)))
        message = msgspec.structs.replace(message, **{field: value})
    for member in coalition.some():
        if member != traitor.member:
            coalition.network.send(traitor, member, message)


def flood(coalition: Coalition) -> None:
    """Well-signed votes for slots and views that may come or never will."""
    rng, network = coalition.rng, coalition.network
    epoch, view = max(network.views)
    for signer in coalition.traitors(epoch):
        victim = [rng.randrange(network.plan.members)]
        for _ in range(8):
            kind = rng.choice(("prepare", "reject", "commit"))
            seq = network.height + rng.choice((1, 2, 5, 60, 256, 300))
            digest = sha256(network.nonce())
            place = (kind, epoch, max(0, view + rng.randint(-2, 3)), seq, digest, signer)
            coalition.say(epoch, signer, coalition.vote(*place), victim)


def forge(coalition: Coalition, traitor: Traitor, message) -> None:
    """Certificates, evidence and decisions that were never signed by whom they name."""
    rng, network = coalition.rng, coalition.network
    epoch, view = max(network.views)
    voters = coalition.voters(epoch)
    header = Header(
        epoch=epoch, seq=network.height + 1, parent=rng.choice((NETWORK, GENESIS_ROOT)),
        body_root=Body(GENESIS_ROOT, b"forged").body_root(),
    )  # fmt: skip
    everyone = (1 << len(voters)) - 1
    forged = Certificate(
        header=header, kind=rng.choice(("prepare", "commit")), view=view,
        signers=everyone.to_bytes((len(voters) + 7) // 8, "little"),
        signatures=(WRONG,) * len(voters),
    )  # fmt: skip
    lies = [DecidedSlot(batch=Body(GENESIS_ROOT, b"forged"), certificate=forged)]
    if isinstance(message, Vote):
        other = msgspec.structs.replace(message, digest=sha256(message.digest))
        lies.append(Evidence(first=message, second=other))
    lies += [
        make_change(coalition, epoch, view + 1, signer, None, (forged,))
        for signer in coalition.traitors(epoch)
    ]
    lie = rng.choice(lies)
    for member in coalition.some():
        if member != traitor.member:
            network.send(traitor, member, lie)


def hurry(coalition: Coalition, vote: Vote) -> None:
    """Ask for the next view, though nothing is wrong with this one."""
    view = vote.view + coalition.rng.choice((1, 1, 2, 7))
    for signer in coalition.traitors(vote.epoch):
        made = stale_change(coalition, vote.epoch, view, signer)
        if made is not None:
            coalition.say(vote.epoch, signer, made)
