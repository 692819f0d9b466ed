"""Builders of the tests: a small network from fixed seeds, and everything its members sign."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from consensus.certificate import bitmap, build_certificate
from consensus.validators import Voters
from protocol.actions import Action, RegistryChange, RegistryContent
from protocol.codec import digest_of, sha256
from protocol.envelope import RecordKind, VoteKind, record_payload, vote_payload
from protocol.identity import ConsensusKey, Hotkey
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.challenge import Challenge
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from protocol.records.consensus_key import KeyBinding, SignedKey, binding_payload
from protocol.records.genesis import ChainParameters, Genesis, Neuron, Parameters
from protocol.records.metagraph import EpochMetagraph, WeightRules
from protocol.records.statement import (
    Statement,
    StatementHeader,
    StatementItem,
    items_root,
    statement_payload,
)
from protocol.records.submission import PostedSubmission, SignedSubmission, Submission
from protocol.records.validators import (
    NodeRecord,
    SignedNodeRecord,
    Validator,
    ValidatorSet,
)
from protocol.view import DictView
from registry.catalog import write_genesis
from tests.makers import (  # noqa: F401 - re-exported
    POLICY,
    make_challenge,
    make_observation,
    make_verdict,
    observation_of,
    replaced,
)
from validator_node.execution import Outcome
from validator_node.store import Store

START_MS = 1_700_000_000_000
OWNER = Hotkey(sha256(b"owner"))
STRANGER = Hotkey(sha256(b"stranger"))
_VALIDATORS = tuple(
    (Hotkey(sha256(b"hotkey", bytes([i]))), ConsensusKey(sha256(b"consensus", bytes([i]))))
    for i in range(8)
)
_MINERS = tuple(Hotkey(sha256(b"miner", bytes([i]))) for i in range(4))


class World:
    """A genesis with validators and miners, and the keys to speak for all of them.

    Uids: the validators come first, then the miners. Challenges `alpha` and `beta` exist.
    """

    def __init__(
        self, weights: tuple[int, ...] = (1, 1, 1, 1), *, name: str = "test", **parameters: int
    ) -> None:
        self.hotkeys = [hotkey for hotkey, _ in _VALIDATORS[: len(weights)]]
        self.keys = [key for _, key in _VALIDATORS[: len(weights)]]
        self.miners = list(_MINERS)
        members = tuple(
            Validator(
                hotkey=hotkey.public_key,
                consensus_key=key.public_key,
                weight=weight,
            )
            for (hotkey, key), weight in zip(_VALIDATORS, weights, strict=False)
        )
        hotkeys = [*self.hotkeys, *self.miners]
        self.genesis = Genesis(
            name=name,
            engine_id=sha256(b"engine"),
            owner=OWNER.public_key,
            chain=ChainParameters(
                netuid=1,
                start_ms=START_MS,
                block_time_ms=1000,
                tempo=20,
                weights_rate_limit=0,
                min_stake=0,
            ),
            neurons=tuple(
                Neuron(uid=uid, hotkey=hotkey.public_key, stake=stake, validator_permit=True)
                for uid, (hotkey, stake) in enumerate(zip_longest(hotkeys, weights, fillvalue=0))
            ),
            validators=ValidatorSet(epoch=0, members=members),
            challenges=(
                make_challenge("alpha", emission=3),
                make_challenge("beta", emission=1),
            ),
            parameters=Parameters(**parameters),
        )
        self.network_id = self.genesis.network_id
        self.voters = Voters(self.genesis.validators, self.network_id)
        self._counters = [0] * len(weights)

    def uid(self, miner: int) -> int:
        return len(self.hotkeys) + miner

    def state(self) -> DictView:
        """Return the state at genesis, in a dictionary."""
        view = DictView()
        write_genesis(view, self.genesis)
        return view

    # --- what miners and the owner sign ------------------------------------------------------

    def submission(self, body: bytes = b"body", *, miner: int = 0, **changes: Any) -> Submission:
        fields = {
            "network_id": self.network_id,
            "challenge_id": "alpha",
            "challenge_version": 0,
            "kind": "plain",
            "hotkey": self.miners[miner].public_key,
            "expiry_epoch": 1,
            "body_hash": sha256(body),
            "body_size": len(body),
        }
        return Submission(**{**fields, **changes})

    def sign(self, submission: Submission, by: Hotkey | None = None) -> SignedSubmission:
        """Sign for the submission's network, by its own hotkey unless told otherwise."""
        known = {miner.public_key: miner for miner in (*self.miners, *self.hotkeys, STRANGER)}
        payload = record_payload(
            RecordKind.SUBMISSION, submission.network_id, submission.submission_id
        )
        signature = (by or known[submission.hotkey]).sign(payload)
        return SignedSubmission(submission=submission, signature=signature)

    def signed(self, body: bytes = b"body", *, miner: int = 0, **changes: Any) -> SignedSubmission:
        return self.sign(self.submission(body, miner=miner, **changes))

    def posted(self, body: bytes = b"body", *, miner: int = 0, **changes: Any) -> PostedSubmission:
        return PostedSubmission(signed=self.signed(body, miner=miner, **changes), body=body)

    def change(
        self, sequence: int, challenge: Challenge, *, owner: Hotkey = OWNER
    ) -> RegistryChange:
        content = RegistryContent(sequence=sequence, challenge=challenge)
        payload = record_payload(RecordKind.REGISTRY_CHANGE, self.network_id, digest_of(content))
        return RegistryChange(
            content=content, owner=owner.public_key, signature=owner.sign(payload)
        )

    # --- what validators sign ----------------------------------------------------------------

    def statement(
        self,
        signer: int,
        *items: StatementItem,
        counter: int | None = None,
        clock_ms: int = START_MS,
        key: ConsensusKey | None = None,
    ) -> Statement:
        """Return the signer's statement; without `counter`, the one after its last one here."""
        if counter is None:
            self._counters[signer] += 1
            counter = self._counters[signer]
        header = StatementHeader(
            epoch=self.voters.epoch,
            signer=signer,
            counter=counter,
            clock_ms=clock_ms,
            items_root=items_root(items),
        )
        key = key or self.keys[signer]
        payload = statement_payload(self.voters.domain, header, self.keys[signer].public_key)
        return Statement(header=header, items=items, signature=key.sign(payload))

    def certificate(self, header: Header, *, kind: str = "commit", view: int = 0) -> Certificate:
        signatures = {
            index: key.sign(
                vote_payload(
                    self.voters.domain,
                    VoteKind(kind),
                    view=view,
                    seq=header.seq,
                    digest=header.digest,
                    signer=key.public_key,
                )
            )
            for index, key in enumerate(self.keys)
        }
        return build_certificate(self.voters, header, kind, view, signatures)

    def node_record(
        self, index: int, peer_id: str, *, sequence: int = 1, **changes: Any
    ) -> SignedNodeRecord:
        fields = {
            "hotkey": self.hotkeys[index].public_key,
            "consensus_key": self.keys[index].public_key,
            "peer_id": peer_id,
            "addresses": (),
            "sequence": sequence,
        }
        record = NodeRecord(**{**fields, **changes})
        payload = record_payload(RecordKind.NODE_RECORD, self.network_id, digest_of(record))
        return SignedNodeRecord(record=record, signature=self.hotkeys[index].sign(payload))

    def binding(self, hotkey: Hotkey, key: ConsensusKey, *, sequence: int = 1) -> SignedKey:
        """Return a hotkey's binding of a consensus key, signed by both."""
        content = KeyBinding(
            hotkey=hotkey.public_key, consensus_key=key.public_key, sequence=sequence
        )
        payload = binding_payload(content, self.network_id)
        return SignedKey(
            binding=content, signature=hotkey.sign(payload), possession=key.sign(payload)
        )

    # --- the chain of batches ----------------------------------------------------------------

    def next_slot(self, store: Store, *actions: Action) -> tuple[Batch, Certificate]:
        """Return the batch that follows the store's tip, with its commit certificate."""
        seq = store.height + 1
        root = store.root_after(seq - self.genesis.parameters.window)
        assert root is not None
        batch = Batch(state_root=root, actions=actions)
        header = Header(
            epoch=store.epoch, seq=seq, parent=store.chain_hash, body_root=batch.body_root()
        )
        return batch, self.certificate(header)

    def decide(self, store: Store, *actions: Action) -> Outcome:
        """Let the store execute one more slot with these actions."""
        return store.apply(*self.next_slot(store, *actions))

    def metagraph(self, epoch: int, block: int = 20, **changes: Any) -> EpochMetagraph:
        """Return the genesis' metagraph as the chain shows it at the beginning of an epoch."""
        fields = {
            "epoch": epoch,
            "block": block,
            "block_hash": sha256(b"block", block.to_bytes(8)),
            "owner": None,
            "rules": WeightRules(min_allowed_weights=0, max_weight_limit=0xFFFF, mechanisms=1),
            "neurons": self.genesis.neurons,
        }
        return EpochMetagraph(**{**fields, **changes})

    def agreeing(self, metagraph: EpochMetagraph, signers: Iterable[int] = ()) -> list[Action]:
        """Return what fixes the edge: the signers (default: all) observe, and the metagraph."""
        observation = observation_of(metagraph)
        chosen = signers or range(len(self.keys))
        return [*(self.statement(signer, observation) for signer in chosen), metagraph]

    def end_epoch(self, store: Store) -> Outcome:
        """Let a quorum observe the epoch's end and decide every slot up to its edge."""
        self.decide(store, *self.agreeing(self.metagraph(store.epoch + 1)))
        for _ in range(self.genesis.parameters.window):
            outcome = self.decide(store)
        self.begin_epoch(store.epoch)
        return outcome

    def certify(self, store: Store, *, edge: bool = False) -> CheckpointCertificate:
        """Let every validator sign the store's state as a checkpoint; the store keeps it.

        With `edge` it hands over to the next epoch, as after the last slot of one.
        """
        root = store.root_after(store.height)
        assert root is not None
        epoch = store.executed_epoch
        checkpoint = Checkpoint(
            epoch=epoch,
            seq=store.height,
            chain_hash=store.chain_hash,
            state_root=root,
            next_set=self.genesis.validators.for_epoch(epoch + 1) if edge else None,
        )
        certificate = self.stable(checkpoint)
        store.put_stable(certificate)
        return certificate

    def handover(self, next_set: ValidatorSet) -> CheckpointCertificate:
        """Return a hand-over from the genesis' members to `next_set`."""
        return self.stable(
            Checkpoint(
                epoch=next_set.epoch - 1,
                seq=next_set.epoch * 10,
                chain_hash=sha256(b"edge"),
                state_root=sha256(b"root"),
                next_set=next_set,
            )
        )

    def stable(self, checkpoint: Checkpoint) -> CheckpointCertificate:
        """Let every genesis validator sign a checkpoint."""
        voters = self.voters_of(checkpoint.epoch)
        signatures = tuple(
            key.sign(
                vote_payload(
                    voters.domain,
                    VoteKind.CHECKPOINT,
                    view=0,
                    seq=checkpoint.seq,
                    digest=checkpoint.digest,
                    signer=key.public_key,
                )
            )
            for key in self.keys
        )
        return CheckpointCertificate(
            checkpoint=checkpoint,
            signers=bitmap(list(range(len(self.keys))), len(self.keys)),
            signatures=signatures,
        )

    def voters_of(self, epoch: int) -> Voters:
        """Return the genesis' members as the voters of an epoch, as long as `handover` has it."""
        members = self.genesis.validators.for_epoch(epoch)
        return Voters(members, self.network_id, after=10 * epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Speak in another epoch, in which statements count from 1 again."""
        self.voters = self.voters_of(epoch)
        self._counters = [0] * len(self.keys)
