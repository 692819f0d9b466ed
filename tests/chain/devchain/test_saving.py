"""A restarted chain goes on with the same blocks; a wrong file is refused, not overwritten."""

from __future__ import annotations

import pytest

from chain.devchain.errors import DevChainError
from chain.devchain.ledger import Ledger
from chain.devchain.saving import KEPT_BLOCKS, KEPT_HASHES, load, save
from tests.chain.devchain.support import KEYS, ledger, outcome, signed


def reopened(path, **options) -> Ledger:
    chain = ledger(**options)
    assert load(path, chain)
    return chain


def test_nothing_to_go_on_from(tmp_path):
    chain = ledger()
    assert not load(tmp_path / "none", chain)
    save(tmp_path / "made" / "chain", chain)
    assert not load(tmp_path / "made" / "chain", chain)


def test_the_chain_goes_on_as_if_nothing_had_happened(tmp_path):
    chain = ledger(finality_lag=3)
    chain.jump(5, 0)
    assert outcome(chain, signed(chain, 1)) == "Success"
    chain.produce(0)
    save(tmp_path / "chain", chain)
    again = reopened(tmp_path / "chain", finality_lag=3)
    assert (again.head, again.final) == (chain.head, chain.final)
    assert again.next_nonce(KEYS[1]) == 1
    assert again.produce(7)[0].block == chain.produce(7)[0].block


def test_an_extrinsics_life_may_have_begun_before_the_restart(tmp_path):
    chain = ledger()
    data = signed(chain, 1)
    chain.jump(KEPT_BLOCKS + 20, 0)
    save(tmp_path / "chain", chain)
    again = reopened(tmp_path / "chain")
    assert again.block(15) is None
    assert again.hash_at(15) == chain.hash_at(15)
    assert outcome(again, data) == "Success"


def test_what_is_not_final_can_still_be_undone(tmp_path):
    chain = ledger(finality_lag=5)
    chain.submit(signed(chain, 1))
    chain.jump(3, 0)
    save(tmp_path / "chain", chain)
    again = reopened(tmp_path / "chain", finality_lag=5)
    again.reorganise(3, 0)
    assert again.fork == 1
    assert again.head.state.weights_of(1, 0)


def test_the_file_stays_small(tmp_path):
    chain = ledger()
    chain.jump(2 * KEPT_HASHES, 0)
    save(tmp_path / "chain", chain)
    assert (tmp_path / "chain").stat().st_size < 100_000


def test_another_subnets_file_is_refused(tmp_path):
    chain = ledger()
    chain.produce(0)
    save(tmp_path / "chain", chain)
    with pytest.raises(DevChainError, match="use another file or the same subnet"):
        load(tmp_path / "chain", ledger(tempo=99))


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "chain").write_bytes(b"nonsense")
    with pytest.raises(DevChainError, match="SavedChain"):
        load(tmp_path / "chain", ledger())


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "chain").mkdir()
    with pytest.raises(DevChainError, match="make room or correct the rights"):
        save(tmp_path / "chain", ledger())
