"""Which sets and snapshots a node believes, and what it does about being behind."""

from __future__ import annotations

import pytest

from consensus.messages import DecidedSlot
from consensus.validators import Voters
from protocol.codec import sha256
from protocol.errors import ProofError
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from tests.consensus.builders import Signers, make_batch, make_header, make_set, replaced, verify
from tests.support import World
from validator_node.errors import ConfigError
from validator_node.sync.records import SnapshotOffer, SyncOffer
from validator_node.sync.trust import (
    SNAPSHOT_AHEAD,
    SetChain,
    TrustedCheckpoint,
    check_slot,
    parse_trusted,
    plan,
)

GENESIS = replaced(World().genesis, validators=make_set(dict.fromkeys("abcd", 1)))
NETWORK = GENESIS.network_id


MEMBERS = [
    GENESIS.validators,
    *(make_set({f"{name}{epoch}": 1 for name in "abcd"}, epoch) for epoch in (1, 2, 3)),
]
SETS = [
    Signers(Voters(members, NETWORK, after=10 * epoch)) for epoch, members in enumerate(MEMBERS)
]


def checkpoint_at(epoch: int, seq: int, *, edge: bool = False) -> Checkpoint:
    header = make_header(f"slot {seq}", seq, sha256(b"parent"), epoch)
    return Checkpoint(
        epoch=epoch,
        seq=seq,
        chain_hash=header.digest,
        state_root=sha256(b"root", bytes([epoch])),
        next_set=MEMBERS[epoch + 1] if edge else None,
    )


def handover(epoch: int) -> CheckpointCertificate:
    return SETS[epoch].stable(checkpoint_at(epoch, 10 * (epoch + 1), edge=True), [0, 1, 2])


HANDOVERS = [handover(epoch) for epoch in range(3)]


def snapshot(epoch: int, seq: int, manifest: bytes = b"m") -> SnapshotOffer:
    header = make_header(f"slot {seq}", seq, sha256(b"parent"), epoch)
    return SnapshotOffer(
        certificate=SETS[epoch].stable(checkpoint_at(epoch, seq), [0, 1, 2]),
        decided=SETS[epoch].certificate(header),
        manifest=sha256(manifest),
        size=1000,
    )


def offer(*snapshots: SnapshotOffer, height: int = 5000, first_held: int = 1) -> SyncOffer:
    return SyncOffer(height=height, epoch=3, first_held=first_held, snapshots=snapshots)


def test_the_chain_of_sets_grows_only_by_what_the_last_one_signed():
    chain = SetChain(GENESIS, verify)
    assert chain.next_epoch == 0
    chain.extend(HANDOVERS[:2])
    assert chain.next_epoch == 2
    assert chain.voters(2).domain == SETS[2].voters.domain
    assert chain.handovers(2) == tuple(HANDOVERS[:2])
    with pytest.raises(ProofError, match="expected"):
        chain.extend([HANDOVERS[0]])
    stolen = replaced(HANDOVERS[2], signatures=HANDOVERS[1].signatures)
    with pytest.raises(ProofError):
        chain.extend([stolen])
    assert chain.voters(3) is None


def test_a_trusted_checkpoint_begins_the_chain_and_refuses_another_history():
    trusted = TrustedCheckpoint(1, HANDOVERS[1].checkpoint.digest)
    chain = SetChain(GENESIS, verify, trusted)
    assert chain.next_epoch == 1
    other = SETS[1].stable(checkpoint_at(1, 777, edge=True), [0, 1, 2])
    with pytest.raises(ProofError, match="the operator trusts"):
        chain.extend([other])
    chain.extend(HANDOVERS[1:])  # what came before is not asked for
    assert chain.voters(3).domain == SETS[3].voters.domain
    assert chain.voters(1) is None


def test_what_was_proven_before_is_adopted_unless_the_operator_trusts_another():
    chain = SetChain(GENESIS, verify)
    chain.adopt(HANDOVERS[:2])
    chain.extend(HANDOVERS[2:])
    assert chain.voters(3).domain == SETS[3].voters.domain
    with pytest.raises(ProofError, match="the operator trusts"):
        SetChain(GENESIS, verify, TrustedCheckpoint(1, bytes(32))).adopt(HANDOVERS)


@pytest.mark.parametrize("text", ["1", "x:00", "-1:" + "00" * 32, "1:" + "00" * 31, "1:zz"])
def test_a_malformed_trusted_checkpoint_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="EPOCH:DIGEST"):
        parse_trusted(text)


def test_a_trusted_checkpoint_is_read():
    assert parse_trusted("") is None
    assert parse_trusted("7:" + "ab" * 32) == TrustedCheckpoint(7, b"\xab" * 32)


@pytest.mark.parametrize(
    ("height", "first_held", "best_seq", "expected"),
    [
        (5000, 1, 4000, "current"),
        (4990, 1, 4000, "log"),
        (100, 1, None, "log"),
        (100, 1, 100 + SNAPSHOT_AHEAD, "snapshot"),
        (100, 1, 99 + SNAPSHOT_AHEAD, "log"),
        (100, 102, 500, "snapshot"),
        (100, 102, None, "stuck"),
        (100, 102, 100, "stuck"),
    ],
)
def test_the_plan_follows_from_what_is_held(height, first_held, best_seq, expected):
    offers = {"a": offer(height=5000, first_held=first_held)}
    assert plan(height, offers, best_seq) == expected


def test_each_has_its_turn_where_both_lead_there():
    assert plan(100, {"a": offer(first_held=1)}, 4000, turn="log") == "log"
    assert plan(100, {"a": offer(first_held=102)}, 4000, turn="log") == "snapshot"
    assert plan(100, {"a": offer(first_held=1)}, 500, turn="snapshot") == "snapshot"
    assert plan(100, {"a": offer(first_held=1)}, None, turn="snapshot") == "log"


def test_nobody_to_ask_means_nothing_to_do():
    assert plan(0, {}, None) == "current"


@pytest.mark.parametrize(
    "lie", ["other slot", "other body", "minority", "other set", "other epoch"]
)
def test_a_slot_of_the_log_that_does_not_prove_itself_is_refused(lie):
    signers = SETS[1]
    header = make_header("w", 17, epoch=1)
    slot = DecidedSlot(batch=make_batch("w"), certificate=signers.certificate(header))
    check_slot(slot, 17, signers.voters, verify)
    seq, voters = 17, signers.voters
    if lie == "other slot":
        seq = 18
    elif lie == "other body":
        slot = replaced(slot, batch=make_batch("x"))
    elif lie == "minority":
        slot = replaced(slot, certificate=signers.certificate(header, signers=[0, 1]))
    elif lie == "other set":
        voters = SETS[2].voters
    else:  # former members go on after their epoch's end
        chain = SetChain(GENESIS, verify)
        chain.extend(HANDOVERS)
        later = make_header("w", 21, epoch=1)
        seq, voters = 21, chain.voters(1)
        slot = replaced(slot, certificate=signers.certificate(later))
    with pytest.raises(ProofError):
        check_slot(slot, seq, voters, verify)
