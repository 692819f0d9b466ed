"""Commit-reveal: drand round 1000 opens what was sealed for it, and each way a reveal can fail."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from chain.devchain import changes
from chain.devchain.commits import MAX_COMMIT_BYTES, Weights, commit_hash
from chain.devchain.errors import PoolRefusedError, RpcError
from chain.devchain.ledger import Ledger
from tests.chain.devchain.support import (
    DRAND_ROUND,
    DRAND_SIGNATURE,
    KEYS,
    NETUID,
    NEWCOMER,
    events,
    include,
    ledger,
    outcome,
    sealed_commit,
    signed,
)

TEMPO = 5
PULSE = bytes.fromhex(DRAND_SIGNATURE)
TIMELOCKED = "commit_timelocked_mechanism_weights"


def with_pulse(chain: Ledger) -> None:
    chain.produce(0, lambda state: changes.with_pulse(state, DRAND_ROUND, PULSE))


def committing(**rules: object) -> Ledger:
    return ledger(commit_reveal=True, tempo=TEMPO, **rules)


def commit(
    chain: Ledger, who: int, ciphertext: bytes, *, mechanism: int = 0, number: int = DRAND_ROUND
) -> str:
    data = signed(
        chain,
        who,
        TIMELOCKED,
        mecid=mechanism,
        commit=ciphertext,
        reveal_round=number,
        commit_reveal_version=4,
    )
    return outcome(chain, data)


def to_epoch(chain: Ledger, index: int) -> None:
    while chain.head.state.epochs.index < index:
        chain.produce(0)


def failures(chain: Ledger) -> list[str | None]:
    return [reveal.failure for _block, reveal in chain.reveals]


def test_a_commit_waits_for_its_epoch_and_is_then_applied():
    chain = committing()
    ciphertext = sealed_commit(1, [0, 2], [1000, 2000])
    assert commit(chain, 1, ciphertext) == "Success"
    committed_at = chain.head.number
    with_pulse(chain)
    assert chain.head.state.epochs.index == 0
    assert chain.head.state.weights_of(1, 0) == ()
    assert chain.head.state.commits[0].ciphertext == ciphertext
    to_epoch(chain, 1)
    assert events(chain)[0]["event_id"] == "TimelockedWeightsRevealed"
    assert events(chain)[0]["phase"] == "Initialization"
    assert chain.head.state.weights_of(1, 0) == ((0, 32768), (2, 65535))
    assert chain.head.state.last_update(1, 0) == committed_at
    assert chain.head.state.commits == ()


def test_a_commit_waits_for_its_pulse_and_is_dropped_after_its_epoch():
    chain = committing()
    for number in (DRAND_ROUND, DRAND_ROUND + 1):
        assert commit(chain, 1, sealed_commit(1, [0], [1]), number=number) == "Success"
    to_epoch(chain, 1)
    assert len(chain.head.state.commits) == 2
    with_pulse(chain)
    assert chain.head.state.weights_of(1, 0) == ((0, 65535),)
    assert len(chain.head.state.commits) == 1
    to_epoch(chain, 2)
    assert chain.head.state.commits == ()
    assert failures(chain) == [None]


def test_a_longer_reveal_period_holds_it_back():
    chain = committing(reveal_period=2)
    commit(chain, 1, sealed_commit(1, [0], [1]))
    with_pulse(chain)
    to_epoch(chain, 1)
    assert chain.head.state.weights_of(1, 0) == ()
    to_epoch(chain, 2)
    assert chain.head.state.weights_of(1, 0) == ((0, 65535),)


def test_a_commit_at_the_block_of_an_epoch_belongs_to_the_next_one():
    chain = committing()
    chain.jump(TEMPO - 1, 0)
    commit(chain, 1, sealed_commit(1, [0], [1]))
    assert chain.head.state.epochs.index == 1
    assert chain.head.state.commits[0].epoch == 1


@pytest.mark.parametrize(
    ("ciphertext", "text"),
    [
        (b"\xff" * 50, "does not open it"),
        (sealed_commit(1, [0], [1], named=2), "but it names"),
        (sealed_commit(1, [9], [1]), "UidVecContainInvalidOne"),
        (sealed_commit(1, [0, 1], [1]), "WeightVecNotEqualSize"),
        (sealed_commit(1, [0], [1], version_key=1), "IncorrectWeightVersionKey"),
    ],
)
def test_what_cannot_be_applied_is_dropped_with_a_reason(ciphertext, text):
    chain = committing(version_key=3 if text.startswith("Incorrect") else 0)
    assert commit(chain, 1, ciphertext) == "Success"
    with_pulse(chain)
    to_epoch(chain, 1)
    assert chain.head.state.weights_of(1, 0) == ()
    assert chain.head.state.commits == ()
    assert text in str(failures(chain)[0])


def test_a_lost_permit_between_commit_and_reveal_loses_the_weights():
    chain = committing()
    commit(chain, 1, sealed_commit(1, [0, 2], [1, 1]))
    with_pulse(chain)
    chain.produce(0, lambda state: changes.with_permit(state, KEYS[1], False))
    to_epoch(chain, 1)
    assert "NeuronNoValidatorPermit" in str(failures(chain)[0])


def test_dropped_reveals_leave_no_trace():
    chain = committing()
    commit(chain, 1, sealed_commit(1, [0], [1]))
    with_pulse(chain)
    chain.knobs.drop_reveals = True
    to_epoch(chain, 1)
    assert chain.head.state.commits == ()
    assert chain.head.state.weights_of(1, 0) == ()
    assert failures(chain) == []


def test_mechanisms_have_commits_of_their_own():
    chain = committing(mechanisms=2)
    commit(chain, 1, sealed_commit(1, [0], [1]), mechanism=1)
    with_pulse(chain)
    to_epoch(chain, 1)
    assert chain.head.state.weights_of(1, 0) == ()
    assert chain.head.state.weights_of(1, 1) == ((0, 65535),)


def test_ten_commits_in_an_epoch_are_enough():
    chain = ledger(commit_reveal=True, tempo=1000, weights_rate_limit=0)
    results = [commit(chain, 1, b"\xff") for _ in range(11)]
    assert results == ["Success"] * 10 + ["TooManyUnrevealedCommits"]
    assert commit(chain, 2, b"\xff") == "Success"


def test_a_commit_that_is_too_long_is_no_call():
    chain = committing()
    assert commit(chain, 1, b"\xff" * MAX_COMMIT_BYTES) == "Success"
    with pytest.raises(RpcError, match="commit of 5001 bytes"):
        commit(chain, 1, b"\xff" * (MAX_COMMIT_BYTES + 1))


def test_a_ciphertext_that_looks_like_text_is_kept_as_it_is():
    chain = committing()
    assert commit(chain, 1, b"0x6162") == "Success"
    assert chain.head.state.commits[0].ciphertext == b"0x6162"


REVEAL = {"uids": [0, 2], "values": [1000, 2000], "salt": [7, 8], "version_key": 0}


def commit_a_hash(chain: Ledger, who: int = 1, **changed: object) -> str:
    reveal = {**REVEAL, **changed}
    wanted = Weights(KEYS[who], 0, tuple(reveal["uids"]), tuple(reveal["values"]), 0)
    digest = commit_hash(chain.head.state, wanted, tuple(reveal["salt"]))
    return outcome(chain, signed(chain, who, "commit_weights", commit_hash="0x" + digest.hex()))


def test_a_hash_commit_is_the_chains_own_hash():
    """BlakeTwo256 of the SCALE tuple, encoded here by the codec."""
    chain = committing()
    wanted = Weights(KEYS[1], 0, (0, 2), (1000, 2000), 9)
    runtime = chain.codec.runtime
    preimage = KEYS[1] + b"".join(
        bytes(runtime.encode(kind, value))
        for kind, value in [
            ("u16", NETUID),
            ("Vec<u16>", [0, 2]),
            ("Vec<u16>", [1000, 2000]),
            ("Vec<u16>", [7]),
            ("u64", 9),
        ]
    )
    expected = blake2b(preimage, digest_size=32).digest()
    assert commit_hash(chain.head.state, wanted, (7,)) == expected


def test_a_hash_commit_is_revealed_by_its_owner_in_its_epoch():
    chain = committing()
    assert commit_a_hash(chain) == "Success"
    to_epoch(chain, 1)
    assert outcome(chain, signed(chain, 1, "reveal_weights", **REVEAL)) == "Success"
    assert chain.head.state.weights_of(1, 0) == ((0, 32768), (2, 65535))
    assert chain.head.state.hash_commits == ()


@pytest.mark.parametrize(
    ("name", "number", "epoch", "changed"),
    [
        ("RevealTooEarly", 17, 0, {}),
        ("ExpiredWeightCommit", 17, 2, {}),
        ("InvalidRevealCommitHashNotMatch", 16, 1, {"values": [1, 2]}),
    ],
)
def test_a_reveal_out_of_turn_is_refused_by_pool_and_chain(name, number, epoch, changed):
    chain = committing()
    assert commit_a_hash(chain) == "Success"
    to_epoch(chain, epoch)
    data = signed(chain, 1, "reveal_weights", **{**REVEAL, **changed})
    with pytest.raises(PoolRefusedError, match=f"Custom error: {number}"):
        chain.submit(data)
    chain.knobs.pool_checks = False
    assert outcome(chain, data) == name


def test_nothing_to_reveal_is_named():
    chain = committing()
    chain.knobs.pool_checks = False
    data = signed(chain, 1, "reveal_weights", **REVEAL)
    assert outcome(chain, data) == "NoWeightsCommitFound"


def test_ten_hash_commits_are_enough_and_expired_ones_make_room():
    chain = ledger(commit_reveal=True, tempo=50, weights_rate_limit=0)
    results = [commit_a_hash(chain, salt=[n]) for n in range(11)]
    assert results == ["Success"] * 10 + ["TooManyUnrevealedCommits"]
    to_epoch(chain, 2)
    assert commit_a_hash(chain, salt=[11]) == "Success"
    assert len(chain.head.state.hash_commits) == 1


def test_a_stranger_has_nothing_to_commit():
    chain = committing()
    assert commit_a_hash(chain, NEWCOMER) == "HotKeyNotRegisteredInSubNet"
    assert include(chain, signed(chain, 1, "remark", module="System", remark=b""))
