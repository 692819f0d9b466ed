"""One submission's whole way in a network of fixed keys: the worked example of docs/protocol.md.

Five validators decide six slots: 1 admits the submission, 2 holds the verdicts that settle it, and
6 names the state root after 2, so its certificate proves the result. Everything follows from the
constants below and from the miner's signature in tests/vectors/, because sr25519 signatures are
randomised. `python -m tests.protocol.worked_example` writes the vectors and the page again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consensus.certificate import build_certificate
from consensus.validators import Voters
from protocol.actions import Action
from protocol.codec import encode, sha256
from protocol.envelope import RecordKind, VoteKind, record_payload, vote_payload
from protocol.errors import SignatureError
from protocol.identity import ConsensusKey, Hotkey
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.challenge import Challenge, RuntimePolicy
from protocol.records.genesis import ChainParameters, Genesis, Neuron, Parameters
from protocol.records.result import Receipt, Result, result_key
from protocol.records.statement import (
    Observation,
    Statement,
    StatementHeader,
    StatementItem,
    VerdictItem,
    items_root,
    statement_payload,
)
from protocol.records.submission import PostedSubmission, SignedSubmission, Submission
from protocol.records.validators import Validator, ValidatorSet
from protocol.state_proof import EMPTY, StateProof, place_of
from protocol.view import DictView
from registry.catalog import write_genesis
from storage.state_nodes import TreeUpdate, prove_key
from validator_node.execution import execute

VECTORS = Path(__file__).parents[1] / "vectors"
RECEIPT_FILE = VECTORS / "receipt.hex"
GENESIS_FILE = VECTORS / "receipt-genesis.hex"
SIGNATURE_FILE = VECTORS / "signature.hex"

WEIGHTS = (600, 200, 100, 60, 40)
VOTERS_OF_SLOT_6 = (0, 1, 3)
VIEW = 1
START_MS = 1_700_000_000_000
MINER_UID = len(WEIGHTS)
CHALLENGE = "series_forecast"

MINER = Hotkey(bytes(range(32)))
CONSENSUS = tuple(ConsensusKey(bytes([0x10 + i]) * 32) for i in range(len(WEIGHTS)))
HOTKEYS = tuple(Hotkey(bytes([0x20 + i]) * 32) for i in range(len(WEIGHTS)))

BODY = bytes.fromhex("01010000000000000100000100")
"""The naive forecast of the example challenge: 13 bytes."""


@dataclass(frozen=True)
class Example:
    """What the document shows."""

    genesis: Genesis
    voters: Voters
    submission: Submission
    posted: PostedSubmission
    receipt: Receipt


def make_genesis() -> Genesis:
    """The network of the example."""
    policy = RuntimePolicy(
        fuel=2_000_000,
        memory_pages=4,
        max_input_bytes=4096,
        max_output_bytes=512,
        max_log_lines=0,
        host_functions=("sha256",),
    )
    challenge = Challenge(
        challenge_id=CHALLENGE,
        version=1,
        module_hash=sha256(b"example module"),
        policy=policy,
        vectors=sha256(b"example vectors"),
        params=encode({"horizon": 11, "windows": 16}),
        emission=1,
    )
    return Genesis(
        name="worked-example",
        engine_id=sha256(b"example engine"),
        owner=HOTKEYS[0].public_key,
        chain=ChainParameters(
            netuid=1,
            start_ms=START_MS,
            block_time_ms=12_000,
            tempo=360,
            weights_rate_limit=100,
            min_stake=1,
        ),
        neurons=_neurons(),
        validators=ValidatorSet(
            epoch=0,
            members=tuple(
                Validator(hotkey=h.public_key, consensus_key=c.public_key, weight=weight)
                for h, c, weight in zip(HOTKEYS, CONSENSUS, WEIGHTS, strict=True)
            ),
        ),
        challenges=(challenge,),
        parameters=Parameters(),
    )


def _neurons() -> tuple[Neuron, ...]:
    validators = tuple(
        Neuron(uid=uid, hotkey=HOTKEYS[uid].public_key, stake=weight, validator_permit=True)
        for uid, weight in enumerate(WEIGHTS)
    )
    miner = Neuron(uid=MINER_UID, hotkey=MINER.public_key, stake=0, validator_permit=False)
    return (*validators, miner)


def make_submission(network_id: bytes) -> Submission:
    """The submission of `BODY`."""
    return Submission(
        network_id=network_id,
        challenge_id=CHALLENGE,
        challenge_version=0,
        kind="plain",
        hotkey=MINER.public_key,
        expiry_epoch=300,
        body_hash=sha256(BODY),
        body_size=len(BODY),
    )


def state_tree(view: DictView) -> TreeUpdate:
    """The nodes of the tree over everything in `view`."""
    update = TreeUpdate(lambda _path: None)
    update.apply(EMPTY, [(place_of(key), sha256(value)) for key, value in view.items()])
    return update


def root_of(tree: TreeUpdate) -> bytes:
    node = tree.writes[1]
    return EMPTY if node is None else sha256(node)


class Chain:
    """Decides and executes batches one after the other."""

    def __init__(self, genesis: Genesis) -> None:
        self.voters = Voters(genesis.validators, genesis.network_id)
        self.parameters = genesis.parameters
        self.view = DictView()
        write_genesis(self.view, genesis)
        self.parent = genesis.network_id
        self.roots = [root_of(state_tree(self.view))]
        self.results: list[Result] = []

    def statement(self, signer: int, counter: int, *items: StatementItem) -> Statement:
        header = StatementHeader(
            epoch=0,
            signer=signer,
            counter=counter,
            clock_ms=START_MS + 1000,
            items_root=items_root(items),
        )
        key = CONSENSUS[signer]
        payload = statement_payload(self.voters.domain, header, key.public_key)
        return Statement(header=header, items=items, signature=key.sign(payload))

    def decide(self, *actions: Action) -> tuple[Batch, Header]:
        """Make the next slot's batch and execute it."""
        seq = len(self.roots)
        certified = max(0, seq - self.parameters.window)
        batch = Batch(state_root=self.roots[certified], actions=actions)
        header = Header(epoch=0, seq=seq, parent=self.parent, body_root=batch.body_root())
        outcome = execute(self.view, self.voters, self.parameters, header, batch)
        self.results += outcome.results
        self.roots.append(root_of(state_tree(self.view)))
        self.parent = header.digest
        return batch, header

    def prove(self, key: bytes) -> StateProof:
        """The proof of `key` under the newest root."""
        return prove_key(state_tree(self.view).writes.get, self.roots[-1], key)

    def certify(self, header: Header, signers: tuple[int, ...]) -> Certificate:
        """The commit certificate of `signers`."""
        signatures = {}
        for signer in signers:
            key = CONSENSUS[signer]
            payload = vote_payload(
                self.voters.domain,
                VoteKind.COMMIT,
                view=VIEW,
                seq=header.seq,
                digest=header.digest,
                signer=key.public_key,
            )
            signatures[signer] = key.sign(payload)
        return build_certificate(self.voters, header, "commit", VIEW, signatures)


def make_example() -> Example:
    """Run the six slots."""
    genesis = make_genesis()
    chain = Chain(genesis)
    submission = make_submission(genesis.network_id)
    signature = bytes.fromhex(SIGNATURE_FILE.read_text())
    signed = SignedSubmission(submission=submission, signature=signature)
    chain.decide(chain.statement(0, 1, signed))
    verdict = VerdictItem(
        submission_id=submission.submission_id,
        verdict_hash=sha256(b"example verdict"),
        outcome_class="ok",
        score=500_000,
    )
    counters = (2, 1, 1, 1, 1)
    chain.decide(*(chain.statement(i, counters[i], verdict) for i in range(len(WEIGHTS))))
    [result] = chain.results
    proof = chain.prove(result_key(result.submission_id))
    for _ in range(chain.parameters.window - 1):
        chain.decide()
    observation = Observation(
        epoch=1, block=360, block_hash=sha256(b"block"), snapshot_hash=sha256(b"metagraph")
    )
    batch, header = chain.decide(chain.statement(1, 2, observation))
    receipt = Receipt(
        result=result,
        state_proof=proof,
        body=batch.commitment(),
        certificate=chain.certify(header, VOTERS_OF_SLOT_6),
    )
    posted = PostedSubmission(signed=signed, body=BODY)
    return Example(genesis, chain.voters, submission, posted, receipt)


def hex_lines(data: bytes) -> str:
    """`data` as text: 32 bytes a line."""
    return "".join(data[i : i + 32].hex() + "\n" for i in range(0, len(data), 32))


def write_vectors() -> None:
    """Write the files of tests/vectors/; a new signature only if the old one does not hold."""
    network_id = make_genesis().network_id
    try:
        make_example().posted.signed.verify(network_id)
    except SignatureError:
        submission_id = make_submission(network_id).submission_id
        payload = record_payload(RecordKind.SUBMISSION, network_id, submission_id)
        SIGNATURE_FILE.write_text(hex_lines(MINER.sign(payload)))
    example = make_example()
    GENESIS_FILE.write_text(hex_lines(encode(example.genesis)))
    RECEIPT_FILE.write_text(hex_lines(encode(example.receipt)))
