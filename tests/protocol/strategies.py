"""Hypothesis strategies for the records that travel: valid by type, otherwise arbitrary."""

from hypothesis import strategies as st

from protocol.actions import RegistryChange, RegistryContent
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.canary import CanaryItem
from protocol.records.challenge import MAX_SCORE, Challenge, DataBlob, RuntimePolicy
from protocol.records.challenge_storage import MAX_WRITTEN_BYTES, StorageWrite
from protocol.records.consensus_key import KeyBinding, SignedKey
from protocol.records.genesis import Neuron
from protocol.records.metagraph import EpochMetagraph, WeightRules
from protocol.records.result import Copy, Disputed, Replicated, Result
from protocol.records.statement import Observation, Statement, StatementHeader, VerdictItem
from protocol.records.submission import SignedSubmission, Submission

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**63 - 1)
positive = st.integers(1, 2**63 - 1)
digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
scores = st.integers(0, MAX_SCORE)

submissions = st.builds(
    Submission,
    network_id=digests,
    challenge_id=names,
    challenge_version=u32,
    kind=st.just("plain"),
    hotkey=digests,
    expiry_epoch=u64,
    body_hash=digests,
    body_size=u32,
)
signed_submissions = st.builds(SignedSubmission, submission=submissions, signature=signatures)
verdicts = st.builds(
    VerdictItem,
    submission_id=digests,
    verdict_hash=digests,
    outcome_class=names,
    score=scores,
    writes=st.lists(
        st.builds(
            StorageWrite, key=st.binary(min_size=1, max_size=64), value=st.binary(max_size=40)
        ),
        max_size=2,
    ).map(tuple),
)
observations = st.builds(
    Observation, epoch=u64, block=u64, block_hash=digests, snapshot_hash=digests
)
bindings = st.builds(KeyBinding, hotkey=digests, consensus_key=digests, sequence=u64)
signed_keys = st.builds(SignedKey, binding=bindings, signature=signatures, possession=signatures)
canaries = st.builds(CanaryItem, challenge=digests, results=digests, failure=st.text(max_size=50))
items = st.one_of(signed_submissions, verdicts, observations, signed_keys, canaries)
statements = st.builds(
    Statement,
    header=st.builds(
        StatementHeader,
        epoch=u64,
        signer=u16,
        counter=positive,
        clock_ms=u64,
        items_root=digests,
    ),
    items=st.lists(items, min_size=1, max_size=3).map(tuple),
    signature=signatures,
)
policies = st.builds(
    RuntimePolicy,
    fuel=u64,
    memory_pages=st.integers(1, 1024),
    max_input_bytes=u32,
    max_output_bytes=u32,
    max_log_lines=u32,
    host_functions=st.lists(names, max_size=3).map(tuple),
    data=st.lists(
        st.builds(DataBlob, key=st.binary(min_size=1, max_size=64), digest=digests), max_size=2
    ).map(tuple),
    storage_bytes=st.integers(0, MAX_WRITTEN_BYTES),
)
challenges = st.builds(
    Challenge,
    challenge_id=names,
    version=u32,
    module_hash=digests,
    policy=policies,
    vectors=digests,
    params=st.binary(max_size=300),
    emission=u32,
    mechanism=st.integers(0, 255),
)
changes = st.builds(
    RegistryChange,
    content=st.builds(RegistryContent, sequence=positive, challenge=challenges),
    owner=digests,
    signature=signatures,
)
neurons = st.builds(Neuron, uid=u16, hotkey=digests, stake=u64, validator_permit=st.booleans())
metagraphs = st.builds(
    EpochMetagraph,
    epoch=u64,
    block=u64,
    block_hash=digests,
    owner=st.none() | digests,
    rules=st.builds(
        WeightRules,
        min_allowed_weights=u16,
        max_weight_limit=u16,
        mechanisms=st.integers(1, 16),
    ),
    neurons=st.lists(neurons, max_size=3).map(tuple),
)
actions = st.one_of(statements, changes, metagraphs)
batches = st.builds(Batch, state_root=digests, actions=st.lists(actions, max_size=3).map(tuple))
headers = st.builds(Header, epoch=u64, seq=positive, parent=digests, body_root=digests)
certificates = st.builds(
    Certificate,
    header=headers,
    kind=st.sampled_from(["prepare", "commit"]),
    view=u64,
    signers=st.binary(min_size=1, max_size=32),
    signatures=st.lists(signatures, min_size=1, max_size=3).map(tuple),
)
results = st.builds(
    Result,
    submission_id=digests,
    hotkey=digests,
    uid=u16,
    challenge_id=names,
    challenge_version=u32,
    epoch=u64,
    admitted_seq=u64,
    settled_seq=u64,
    basis=st.one_of(
        st.builds(Replicated, verdict_hash=digests, outcome_class=names, score=scores),
        st.builds(Disputed, reason=st.sampled_from(["split", "timeout"])),
        st.builds(Copy, original=digests),
    ),
)
records = st.one_of(
    submissions, signed_submissions, statements, batches, certificates, results, changes
)
