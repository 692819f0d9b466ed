from __future__ import annotations

from pathlib import Path

import pytest

from consensus.messages import Evidence, Vote
from consensus.receipts import verify_receipt
from protocol.codec import encode, sha256
from protocol.errors import ProtocolError
from protocol.identity import verify_consensus
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from protocol.records.result import Copy, Receipt, Replicated
from protocol.records.validators import ValidatorSet
from registry.access import challenges
from storage.errors import BlobError, LedgerError, StorageError
from tests.support import World, make_verdict, replaced
from validator_node.errors import GenesisMismatchError
from validator_node.store import Store


def reopened(store: Store, path: Path) -> Store:
    """Close the store and open it again, as after a crash: nothing is flushed."""
    store.close()
    return Store.open(path / "db", store.genesis, create=True)


def admit_and_settle(world: World, store: Store, body: bytes = b"body", score: int = 5) -> bytes:
    """Decide two slots, in which a submission is admitted and settled; return its id."""
    signed = world.signed(body)
    submission_id = signed.submission.submission_id
    world.decide(store, world.statement(0, signed))
    verdict = make_verdict(submission_id, score)
    world.decide(store, *[world.statement(signer, verdict) for signer in range(3)])
    return submission_id


# --- opening -------------------------------------------------------------------------------------


def test_a_new_store_is_at_genesis(world: World, store: Store) -> None:
    assert (store.height, store.epoch) == (0, 0)
    assert store.chain_hash == world.network_id
    assert [entry.challenge_id for entry in challenges(store.tree.view())] == ["alpha", "beta"]
    assert dict(store.tree.items()) == world.state().entries
    assert store.root_after(0) == store.root_after(-3) == store.tree.root()
    assert store.tree.root() == store.tree.recompute()
    assert store.root_after(1) is None
    assert store.certificate_at(0) is None
    assert store.batch_at(1) is None


def test_the_genesis_is_durable_at_once(store: Store, tmp_path: Path) -> None:
    root = store.tree.root()
    again = reopened(store, tmp_path)
    assert (again.height, again.chain_hash) == (0, store.genesis.network_id)
    assert again.tree.root() == again.root_after(0) == root
    again.close()


def test_a_store_belongs_to_one_network(store: Store, world: World, tmp_path: Path) -> None:
    store.close()
    other = World(name="other").genesis
    with pytest.raises(GenesisMismatchError, match=world.network_id.hex()[:16]) as caught:
        Store.open(tmp_path / "db", other, create=True)
    assert other.network_id.hex()[:16] in str(caught.value)
    Store.open(tmp_path / "db", world.genesis, create=True).close()


# --- applying, flushing, crashing ----------------------------------------------------------------


def test_what_is_applied_is_seen_at_once(world: World, store: Store) -> None:
    batch, certificate = world.next_slot(store, world.statement(0, world.signed()))
    before = store.tree.root()
    outcome = store.apply(batch, certificate)
    assert len(outcome.admitted) == 1
    assert (store.height, store.chain_hash) == (1, certificate.header.digest)
    assert store.batch_at(1) == (batch, certificate)
    assert store.certificate_at(1) == certificate
    assert store.root_after(1) == store.tree.root() != before
    assert store.root_after(0) == before
    assert store.tree.root() == store.tree.recompute()


def test_what_is_flushed_is_there_after_a_crash(world: World, store: Store, tmp_path: Path) -> None:
    submission_id = admit_and_settle(world, store)
    store.put_body(sha256(b"body"), b"body")
    store.flush()
    tip = (2, store.chain_hash)
    again = reopened(store, tmp_path)
    assert (again.height, again.chain_hash) == tip
    assert again.tree.root() == again.root_after(2) == again.tree.recompute()
    assert again.result(submission_id) is not None
    assert again.blobs.get(sha256(b"body")) == b"body"
    assert again.certificate_at(2) is not None
    again.close()


def test_a_crash_before_the_flush_loses_that_turn_and_nothing_decided_before(
    world: World, store: Store, tmp_path: Path
) -> None:
    first = admit_and_settle(world, store, b"first")
    store.flush()
    tip = (store.height, store.chain_hash, store.tree.root())
    lost = world.next_slot(store, world.statement(3, world.signed(b"second")))
    store.apply(*lost)
    store.put_body(sha256(b"second"), b"second")
    after = store.tree.root()
    again = reopened(store, tmp_path)
    assert (again.height, again.chain_hash, again.tree.root()) == tip
    assert again.result(first) is not None
    assert again.root_after(3) is None
    assert again.batch_at(3) is None
    assert again.blobs.get(sha256(b"second")) is None
    again.apply(*lost)
    assert again.tree.root() == after == again.tree.recompute()
    again.close()


def test_flushing_nothing_is_fine_and_flushing_twice_changes_nothing(
    world: World, store: Store
) -> None:
    store.flush()
    admit_and_settle(world, store)
    store.flush()
    store.flush()
    assert store.height == 2
    world.decide(store)
    store.flush()
    assert store.height == 3


def test_slots_come_once_and_in_order(world: World, store: Store) -> None:
    batch, certificate = world.next_slot(store, world.statement(0, world.signed()))
    gap = replaced(certificate, header=replaced(certificate.header, seq=2))
    with pytest.raises(LedgerError):
        store.apply(batch, gap)
    assert (store.height, store.tree.root()) == (0, store.root_after(0))
    store.apply(batch, certificate)
    with pytest.raises(LedgerError):
        store.apply(batch, certificate)
    assert (store.height, store.tree.root()) == (1, store.root_after(1))


def test_a_body_is_kept_under_its_own_hash_only(store: Store) -> None:
    with pytest.raises(BlobError):
        store.put_body(sha256(b"other"), b"body")


# --- what people ask for -------------------------------------------------------------------------


def test_a_result_can_be_read(world: World, store: Store) -> None:
    submission_id = admit_and_settle(world, store, score=8)
    result = store.result(submission_id)
    assert result is not None
    assert isinstance(result.basis, Replicated)
    assert (result.basis.score, result.admitted_seq, result.settled_seq) == (8, 1, 2)
    assert store.result(sha256(b"unknown")) is None


def test_a_receipt_is_there_once_its_root_is_certified(world: World, store: Store) -> None:
    submission_id = admit_and_settle(world, store)
    window = store.genesis.parameters.window
    for _ in range(window):
        assert store.receipt(submission_id) is None
        world.decide(store)
    receipt = store.receipt(submission_id)
    assert receipt is not None
    assert receipt.certificate == store.certificate_at(2 + window)
    assert verify_receipt(encode(receipt), store.voters_of, verify_consensus) == receipt
    assert receipt.result == store.result(submission_id)


def test_a_receipt_stays_the_same_while_the_state_goes_on(
    world: World, store: Store, tmp_path: Path
) -> None:
    submission_id = admit_and_settle(world, store)
    copy = world.signed(miner=1)
    world.decide(store, world.statement(3, copy))
    for number in range(4):
        world.decide(store, world.statement(3, world.signed(b"%d" % number)))
    store.flush()
    receipts = [store.receipt(submission_id), store.receipt(copy.submission.submission_id)]
    again = reopened(store, tmp_path)
    for receipt in receipts:
        assert isinstance(receipt, Receipt)
        assert verify_receipt(encode(receipt), again.voters_of, verify_consensus) == receipt
        assert again.receipt(receipt.result.submission_id) == receipt
    assert receipts[1].result.basis == Copy(original=submission_id)
    again.close()


def test_a_receipt_of_another_network_does_not_verify(world: World, store: Store) -> None:
    submission_id = admit_and_settle(world, store)
    for _ in range(store.genesis.parameters.window):
        world.decide(store)
    receipt = store.receipt(submission_id)
    with pytest.raises(ProtocolError):
        verify_receipt(encode(receipt), lambda _: World(name="other").voters, verify_consensus)


def test_there_is_no_receipt_of_what_has_not_ended(world: World, store: Store) -> None:
    signed = world.signed()
    world.decide(store, world.statement(0, signed))
    for _ in range(3):
        world.decide(store)
    assert store.receipt(signed.submission.submission_id) is None
    assert store.receipt(sha256(b"unknown")) is None


def test_the_weights_of_a_closed_epoch(world: World, store: Store) -> None:
    admit_and_settle(world, store)
    assert store.weights(0) is None
    outcome = world.end_epoch(store)
    assert store.epoch == 1
    assert [store.weights(0)] == outcome.weights
    assert store.weights(1) is None


def test_the_edge_of_an_epoch_and_the_voters_of_the_next(
    world: World, store: Store, tmp_path: Path
) -> None:
    assert store.edge() is None
    world.decide(store, *world.agreeing(world.metagraph(1), range(3)))
    edge = store.edge()
    assert edge is not None
    assert (edge.seq, edge.next_set.epoch) == (1 + store.genesis.parameters.window, 1)
    assert edge.next_set.members == store.genesis.validators.members
    while store.height < edge.seq:
        assert store.voters.epoch == 0
        world.decide(store)
    assert store.edge() == edge
    assert store.voters.epoch == 1
    assert store.voters.domain == store.voters_of(1).domain != store.voters_of(0).domain
    store.flush()
    again = reopened(store, tmp_path)
    assert (again.epoch, again.voters.epoch) == (1, 1)
    again.close()


def test_a_receipt_is_judged_by_the_voters_of_its_own_epoch(world: World, store: Store) -> None:
    old = admit_and_settle(world, store, b"old")
    world.end_epoch(store)
    new = admit_and_settle(world, store, b"new")
    for _ in range(store.genesis.parameters.window):
        world.decide(store)
    for submission_id, epoch in ((old, 0), (new, 1)):
        receipt = store.receipt(submission_id)
        assert receipt is not None
        assert (receipt.result.epoch, receipt.certificate.header.epoch) == (epoch, epoch)
        verify_receipt(encode(receipt), store.voters_of, verify_consensus)
        with pytest.raises(ProtocolError):
            verify_receipt(encode(receipt), lambda own: store.voters_of(1 - own), verify_consensus)


def checkpoint(world: World, seq: int, epoch: int, next_set: ValidatorSet | None = None):
    content = Checkpoint(
        epoch=epoch, seq=seq, chain_hash=bytes(32), state_root=bytes(32), next_set=next_set
    )
    return CheckpointCertificate(checkpoint=content, signers=b"\x07", signatures=(bytes(64),) * 3)


def test_the_newest_checkpoint_and_those_at_edges_are_kept(
    world: World, store: Store, tmp_path: Path
) -> None:
    assert store.stable() is None
    edge = checkpoint(world, 20, 3, store.genesis.validators)
    plain = checkpoint(world, 30, 4)
    for certificate in (checkpoint(world, 10, 3), edge, plain):
        store.put_stable(certificate)
        assert store.stable() == certificate
    store.flush()
    again = reopened(store, tmp_path)
    assert again.stable() == plain
    assert again.edge_checkpoint(3) == edge
    assert again.edge_checkpoint(4) is None
    again.close()


def test_a_closed_store_answers_nothing(store: Store) -> None:
    store.close()
    with pytest.raises(StorageError):
        store.result(bytes(32))


def test_evidence_survives_a_restart(tmp_path: Path) -> None:
    votes = [
        Vote(
            kind="prepare",
            epoch=0,
            view=0,
            seq=1,
            digest=sha256(text),
            signer=1,
            signature=bytes(64),
        )
        for text in (b"one", b"two")
    ]
    proof = Evidence(first=votes[0], second=votes[1])
    store = Store.open(tmp_path / "evidence", World().genesis, create=True)
    store.put_evidence(proof)
    assert store.evidence() == [proof]
    store.flush()
    store.close()
    again = Store.open(tmp_path / "evidence", World().genesis, create=True)
    assert again.evidence() == [proof]
    again.close()


def test_a_divergence_is_remembered_at_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "diverged", World().genesis, create=True)
    assert store.diverged_at is None
    store.mark_diverged(42)
    store.close()
    again = Store.open(tmp_path / "diverged", World().genesis, create=True)
    assert again.diverged_at == 42
    again.close()
