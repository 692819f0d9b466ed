"""Messages that must change nothing, and the reason for which each is refused."""

from __future__ import annotations

from consensus.messages import BatchBody, DecidedSlot, Evidence, Message
from protocol.records.checkpoint import Checkpoint
from tests.consensus.builders import Node, make_batch, make_chain, make_header, replaced

A, B, C, D, E = make_chain("a", "b", "c", "d", "e")
UNSIGNED = bytes(64)


def busy() -> Node:
    """Return replica 1 in view 3 (its primary is 3): slot 1 decided, 2 committed, 3 approved."""
    node = Node()
    node.decide("a")
    tip = node.core.tip_certificate
    node.receive(node.peers.new_view(3, [node.peers.view_change(s, 3, tip) for s in (0, 2, 3)]))
    node.approve("b", B, 3)
    node.votes("prepare", B, 2, view=3)
    node.approve("c", C, 3)
    node.votes("prepare", D, 2, view=4)
    node.receive(node.peers.view_change(2, 4, tip))
    node.receive(node.peers.checkpoint_vote(2, checkpoint()))
    first, second = contradiction(node)
    node.receive(Evidence(first=first, second=second), peer=0)
    return node


def checkpoint(**changes) -> Checkpoint:
    fields = {"epoch": 0, "seq": 4, "chain_hash": D.digest, "state_root": bytes(32)}
    return Checkpoint(**{**fields, "next_set": None, **changes})


def contradiction(node: Node, signer: int = 2) -> tuple:
    other = make_header("other", 9)
    return (
        node.peers.vote("prepare", signer, make_header("e", 9), 3),
        node.peers.vote("prepare", signer, other, 3),
    )


def decided(node: Node, name: str, header, **changes) -> DecidedSlot:
    certificate = node.peers.certificate(header, view=3, **changes)
    return DecidedSlot(batch=make_batch(name), certificate=certificate)


Table = dict[str, tuple[str, int, Message]]
"""Name -> (reason, sender, message)."""


def of_votes(node: Node) -> Table:
    p = node.peers
    return {
        "vote, epoch": ("wrong_epoch", 2, p.vote("prepare", 2, C, 3, epoch=1)),
        # Of another epoch the index says nothing: its sender may well be the signer.
        "vote, other epoch's index": ("wrong_epoch", 0, p.vote("prepare", 2, C, 3, epoch=1)),
        "vote, signer": ("unknown_signer", 7, replaced(p.vote("prepare", 2, C, 3), signer=7)),
        "vote, passed on": ("foreign_vote", 0, p.vote("prepare", 2, C, 3)),
        "vote, decided slot": ("stale", 2, p.vote("commit", 2, A, 3)),
        "vote, far": ("out_of_window", 2, p.vote("commit", 2, make_header("z", 900), 3)),
        "vote, two views on": ("future_view", 2, p.vote("prepare", 2, C, 5)),
        "vote, view before": ("old_view", 2, p.vote("prepare", 2, C, 2)),
        "vote, known": ("duplicate", 2, p.vote("prepare", 2, B, 3)),
        "vote, not needed": ("past_quorum", 0, p.vote("prepare", 0, B, 3)),
        "vote, unsigned": ("bad_signature", 2, p.vote("prepare", 2, C, 3, signature=UNSIGNED)),
        "vote, other kind": (
            "bad_signature",
            2,
            replaced(p.vote("prepare", 2, C, 3), kind="commit"),
        ),
    }


def of_proposals(node: Node) -> Table:
    p = node.peers
    proposal = p.proposal("d", D, 3)
    return {
        "proposal, vote's epoch": (
            "wrong_epoch",
            3,
            replaced(proposal, vote=replaced(proposal.vote, epoch=1)),
        ),
        "proposal, header's epoch": (
            "wrong_epoch",
            3,
            p.proposal("d", make_header("d", 4, C.digest, epoch=1), 3),
        ),
        "proposal, view": ("other_view", 0, p.proposal("d", D, 4)),
        "proposal, decided slot": ("out_of_window", 3, p.proposal("a", A, 3)),
        "proposal, not the primary": (
            "not_primary",
            0,
            replaced(proposal, vote=p.vote("prepare", 0, D, 3)),
        ),
        "proposal, a commit": (
            "malformed",
            3,
            replaced(proposal, vote=p.vote("commit", 3, D, 3)),
        ),
        "proposal, vote for another slot": (
            "malformed",
            3,
            replaced(proposal, vote=p.vote("prepare", 3, E, 3)),
        ),
        "proposal, body": ("body_mismatch", 3, replaced(proposal, batch=make_batch("z"))),
        "proposal, unsigned": (
            "bad_signature",
            3,
            replaced(proposal, vote=replaced(proposal.vote, signature=UNSIGNED)),
        ),
    }


def of_view_changes(node: Node) -> Table:
    p, tip = node.peers, node.core.tip_certificate
    change = p.view_change(0, 4, tip)
    return {
        "view change, passed on": ("foreign_vote", 3, change),
        "view change, old": ("stale", 0, p.view_change(0, 2, tip)),
        "view change, known": ("stale", 2, p.view_change(2, 4, tip)),
        "view change, epoch": ("wrong_epoch", 0, replaced(change, epoch=1)),
        "view change, other epoch's index": ("wrong_epoch", 3, replaced(change, epoch=1)),
        "view change, signer": ("unknown_signer", 9, replaced(change, signer=9)),
        "view change, unsigned": ("bad_signature", 0, replaced(change, signature=UNSIGNED)),
        "view change, tip": ("bad_proof", 0, p.view_change(0, 4, p.certificate(A, "prepare"))),
    }


def of_new_views(node: Node) -> Table:
    p, tip = node.peers, node.core.tip_certificate
    opened = p.new_view(4, [p.view_change(s, 4, tip) for s in (0, 1, 2)])
    return {
        "new view, epoch": ("wrong_epoch", 0, replaced(opened, epoch=1)),
        "new view, entered": ("stale", 3, node.core.new_view),
        "new view, not the primary": ("not_primary", 2, p.new_view(4, opened.view_changes, 2)),
        "new view, order": ("malformed", 0, p.new_view(4, opened.view_changes[::-1])),
        "new view, other views": (
            "malformed",
            0,
            p.new_view(4, [*opened.view_changes[:2], p.view_change(2, 5, tip)]),
        ),
        "new view, unsigned": ("bad_signature", 0, replaced(opened, signature=UNSIGNED)),
        "new view, too few": ("no_quorum", 0, p.new_view(4, opened.view_changes[:2])),
    }


def of_checkpoints(node: Node) -> Table:
    p = node.peers
    mark = p.checkpoint_vote(0, checkpoint())
    stable = p.stable(checkpoint(), [0, 1, 2])
    return {
        "checkpoint, passed on": ("foreign_vote", 3, mark),
        "checkpoint, epoch": ("wrong_epoch", 0, p.checkpoint_vote(0, checkpoint(epoch=1))),
        "checkpoint, other epoch's index": (
            "wrong_epoch",
            3,
            p.checkpoint_vote(0, checkpoint(epoch=1)),
        ),
        "checkpoint, at genesis": ("stale", 0, p.checkpoint_vote(0, checkpoint(seq=0))),
        "checkpoint, far": ("out_of_window", 0, p.checkpoint_vote(0, checkpoint(seq=900))),
        "checkpoint, known": ("duplicate", 2, p.checkpoint_vote(2, checkpoint())),
        "checkpoint, unsigned": ("bad_signature", 0, replaced(mark, signature=UNSIGNED)),
        "stable, epoch": ("wrong_epoch", 0, p.stable(checkpoint(epoch=1), [0, 1, 2])),
        "stable, at genesis": ("stale", 0, p.stable(checkpoint(seq=0), [0, 1, 2])),
        "stable, too few": ("bad_proof", 0, p.stable(checkpoint(), [0, 1])),
        "stable, bitmap": ("bad_proof", 0, replaced(stable, signers=b"\x07\x00")),
    }


def of_evidence(node: Node) -> Table:
    first, second = contradiction(node, 0)
    return {
        "evidence, epoch": (
            "wrong_epoch",
            0,
            Evidence(first=replaced(first, epoch=1), second=replaced(second, epoch=1)),
        ),
        "evidence, none": ("no_contradiction", 0, Evidence(first=first, second=first)),
        "evidence, known": (
            "duplicate",
            0,
            Evidence(first=contradiction(node)[1], second=contradiction(node)[0]),
        ),
        "evidence, forged": (
            "bad_signature",
            2,
            Evidence(first=first, second=replaced(second, signature=UNSIGNED)),
        ),
    }


def of_slots(node: Node) -> Table:
    return {
        "body, nobody asked": ("unwanted_body", 0, BatchBody(header=E, batch=make_batch("e"))),
        "body, another": ("body_mismatch", 0, BatchBody(header=B, batch=make_batch("z"))),
        "decided, old": ("stale", 0, decided(node, "a", A)),
        "decided, too far on": ("gap", 0, decided(node, "c", C)),
        "decided, epoch": ("wrong_epoch", 0, decided(node, "b", make_header("b", 2, epoch=1))),
        "decided, weak": ("bad_proof", 0, decided(node, "b", B, signers=[0, 1])),
        "decided, body": ("body_mismatch", 0, decided(node, "z", B)),
    }


def refusals(node: Node) -> Table:
    """Return all of them, for a replica in the state of `busy`."""
    return {
        **of_votes(node),
        **of_proposals(node),
        **of_view_changes(node),
        **of_new_views(node),
        **of_checkpoints(node),
        **of_evidence(node),
        **of_slots(node),
    }
